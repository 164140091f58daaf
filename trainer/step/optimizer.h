// trainer/step/optimizer.h - how fast each parameter learns now: groups, multipliers and schedules
// turned into ranges of the arena for the backend's update kernel.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layers/update_rules.h"
#include "trainer/plan/plan.h"
#include "trainer/step/schedule.h"

namespace convoy {

// Settings for the parameters whose name matches `pattern` ('*' and '?' as in a shell):
// "conv1.*", "*.bias". What is not set stays as it was.
struct ParameterGroup {
  std::string pattern;
  std::optional<double> lr;             // base rate of the group
  std::optional<double> lr_multiplier;  // in place of the model's
  std::optional<Schedule> lr_scheduler;
  std::optional<double> momentum;
  std::optional<double> weight_decay;
  std::optional<double> decay_multiplier;  // in place of the model's

  // "PATTERN key=value key=value", keys as the members with '-' for '_'. Throws (kUsage).
  static ParameterGroup Parse(const std::string& text);
};

struct OptimizerOptions {
  UpdateRule rule = UpdateRule::kPaper;
  double lr = 0.01;
  double momentum = 0.9;
  double weight_decay = 0.0005;
  Schedule lr_scheduler;
  std::vector<ParameterGroup> groups;  // later ones win
};

class Optimizer {
 public:
  // Throws (kUsage) when a group matches no parameter of the uncut network.
  Optimizer(const OptimizerOptions& options, const RankPlan& plan);

  UpdateRule rule() const { return options_.rule; }
  // One range per parameter of the rank, in arena order, with the settings of this moment.
  std::vector<UpdateRange> RangesAt(const ScheduleInputs& inputs, double step_epochs) const;
  // Whether any parameter of the (uncut) layer has a rate other than 0 at this moment: the same
  // answer on every rank.
  bool Learns(const std::string& layer, const ScheduleInputs& inputs, double step_epochs) const;
  // The rate of the run itself, without groups and multipliers: what is printed.
  double LearningRateAt(const ScheduleInputs& inputs, double step_epochs) const;

 private:
  // A parameter of the uncut network with its settings resolved.
  struct Resolved {
    std::string name, layer;
    double lr, lr_multiplier, momentum, weight_decay;
    Schedule schedule;
  };
  static double RateOf(const Resolved& resolved, const ScheduleInputs& inputs, double step_epochs);
  Resolved Resolve(const ParameterInfo& parameter, const std::string& layer,
                   std::vector<bool>& used) const;

  OptimizerOptions options_;
  std::vector<Resolved> uncut_;                        // every parameter of the network
  std::vector<std::pair<size_t, UpdateRange>> local_;  // into uncut_, place in this rank's arena
};

// Whether `name` matches a shell pattern of '*' and '?'.
bool MatchesPattern(const std::string& pattern, const std::string& name);

}  // namespace convoy
