#include "launch/options/optimizer_options.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

// What only some rules have. They are stored after --optimizer, which stands before them.
void AddRuleOptions(OptionTable& table, UpdateRule* rule) {
  const auto adam_of = [](UpdateRule& of) -> AdamRule* {
    if (auto* adamw = std::get_if<AdamWRule>(&of)) return &adamw->adam;
    return std::get_if<AdamRule>(&of);
  };
  const auto refuse = [rule](const std::string& option, const char* owners) {
    throw Error(ExitCode::kUsage,
                fmt::format("--{}: not a setting of the optimizer {}", option, NameOf(*rule)),
                fmt::format("it is one of {}", owners));
  };
  table.Add("betas", "B1,B2", "", "of adam and adamw; unset: 0.9,0.999",
            [=](const std::string& value) {
              AdamRule* adam = adam_of(*rule);
              if (adam == nullptr) refuse("betas", "adam and adamw");
              const std::vector<std::string> words = Split(value, ',');
              std::vector<double> betas;
              for (const std::string& word : words) {
                const auto number = ParseNumber(word);
                if (number && *number >= 0 && *number < 1) betas.push_back(*number);
              }
              if (words.size() != 2 || betas.size() != 2) {
                throw Error(ExitCode::kUsage,
                            fmt::format("--betas {}: expected two numbers from 0 to below 1, with "
                                        "a comma between them",
                                        value),
                            "for example 0.9,0.999");
              }
              adam->beta1 = betas[0];
              adam->beta2 = betas[1];
            });
  table.Add("eps", "E", "", "of adam and adamw; unset: 1e-8",
            store::Number("eps", 0, 1, [=](double eps) {
              AdamRule* adam = adam_of(*rule);
              if (adam == nullptr) refuse("eps", "adam and adamw");
              adam->eps = eps;
            }));
  table.Add("eta", "E", "", "trust coefficient of lars; unset: 0.001",
            store::Number("eta", 0, 1e6, [=](double eta) {
              auto* lars = std::get_if<LarsRule>(rule);
              if (lars == nullptr) refuse("eta", "lars");
              lars->eta = eta;
            }));
}

}  // namespace

OptionTable::Store ScheduleStore(const std::string& option, Schedule* target) {
  return [=](const std::string& value) { *target = Schedule::Parse(value, option); };
}

void AddRuleOption(OptionTable& table, UpdateRule* rule) {
  std::vector<std::pair<std::string, UpdateRule>> choices;
  for (const UpdateRule& one : AllUpdateRules()) choices.emplace_back(NameOf(one), one);
  choices.emplace_back("torch", SgdRule{});  // its former name
  table.Add("optimizer", "NAME", "paper",
            "paper (the rate is inside the velocity), sgd, nesterov, adam or adamw (as PyTorch has "
            "them), or lars (for large batches)",
            store::Choice<UpdateRule>("optimizer", choices, rule));
}

void AddClipOption(OptionTable& table, double* clip_norm) {
  table.Add("clip-grad", "NORM", "",
            "scale the gradient of the whole network down to this norm if its own is larger",
            store::Number("clip-grad", 0, 1e12, [=](double norm) { *clip_norm = norm; }));
}

void AddOptimizerOptions(OptionTable& table, OptimizerOptions* optimizer) {
  AddRuleOption(table, &optimizer->rule);
  table.FormerName("update-rule");
  AddRuleOptions(table, &optimizer->rule);
  table.Add("lr", "RATE", "",
            "learning rate; unset: the optimizer's (0.01; adam and adamw 0.001; lars 1)",
            store::Number("lr", 0, 1e6, [=](double rate) { optimizer->lr = rate; }));
  table.Add("lr-scheduler", "SCHEDULE", "constant", Schedule::Syntax(),
            ScheduleStore("lr-scheduler", &optimizer->lr_scheduler));
  table.Add("momentum", "M", "0.9", "of paper, sgd, nesterov and lars",
            store::Number("momentum", 0, 0.99999, [=](double m) { optimizer->momentum = m; }));
  table.Add("weight-decay", "D", "",
            "weight decay; unset: the optimizer's (0.0005; adam 0; adamw 0.01)",
            store::Number("weight-decay", 0, 1e6, [=](double d) { optimizer->weight_decay = d; }));
  AddClipOption(table, &optimizer->clip_norm);
  table.AddRepeated(
      "param-group", "'PATTERN K=V ..'",
      "settings of the parameters that match, as '*.bias lr-multiplier=2 "
      "weight-decay=0'; keys: lr, lr-multiplier, lr-scheduler, momentum, "
      "weight-decay, decay-multiplier",
      [=](const std::string& value) { optimizer->groups.push_back(ParameterGroup::Parse(value)); });
}

void ShowOptimizerDefaults(OptionTable& table, const OptimizerOptions& optimizer) {
  table.ShowDefault("lr", fmt::format("{}", DefaultLr(optimizer.rule)));
  table.ShowDefault("weight-decay", fmt::format("{}", DefaultWeightDecay(optimizer.rule)));
}

}  // namespace convoy
