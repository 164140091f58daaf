#include "trainer/step/optimizer.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

#include "core/text.h"

namespace convoy {

bool MatchesPattern(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

ParameterGroup ParameterGroup::Parse(const std::string& text) {
  const std::vector<std::string> keys = {"lr",       "lr-multiplier", "lr-scheduler",
                                         "momentum", "weight-decay",  "decay-multiplier"};
  std::vector<std::string> words = Split(text, ' ');
  std::erase_if(words, [](const std::string& word) { return word.empty(); });
  if (words.size() < 2) {
    throw Error(ExitCode::kUsage,
                fmt::format("--param-group '{}': expected 'PATTERN key=value ...'", text),
                "for example '*.bias lr-multiplier=2 weight-decay=0'");
  }
  ParameterGroup group{.pattern = words[0]};
  for (size_t i = 1; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    const std::string key = words[i].substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : words[i].substr(equals + 1);
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      const auto nearest = NearestName(key, keys);
      throw Error(ExitCode::kUsage,
                  fmt::format("--param-group '{}': there is no setting {}", text, key),
                  nearest ? fmt::format("did you mean {}?", *nearest)
                          : fmt::format("the settings are {}", fmt::join(keys, ", ")));
    }
    if (key == "lr-scheduler") {
      group.lr_scheduler = Schedule::Parse(value, "param-group lr-scheduler");
      continue;
    }
    const auto number = ParseNumber(value);
    if (!number || *number < 0) {
      throw Error(ExitCode::kUsage, fmt::format("--param-group '{}': {} takes a number >= 0, not "
                                                "'{}'",
                                                text, key, value));
    }
    if (key == "lr") group.lr = number;
    if (key == "lr-multiplier") group.lr_multiplier = number;
    if (key == "momentum") group.momentum = number;
    if (key == "weight-decay") group.weight_decay = number;
    if (key == "decay-multiplier") group.decay_multiplier = number;
  }
  return group;
}

namespace {

// Returns what of a range this rank updates. A bucket, and so a parameter, has one owned range.
UpdateRange::Part PartOf(const UpdateRange& range, const std::vector<OwnedRange>& owned) {
  for (const OwnedRange& own : owned) {
    const int64_t begin = std::max(range.begin, own.begin);
    const int64_t end = std::min(range.begin + range.count, own.begin + own.count);
    if (begin < end) return {begin, end - begin, own.state_begin + begin - own.begin};
  }
  return {range.begin, 0, 0};
}

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, const RankPlan& plan)
    : options_(options), layer_count_(plan.network.layers.size()) {
  std::vector<bool> used(options.groups.size(), false);
  for (const LayerSite& site : SitesOf(plan.network)) {
    for (const ParameterInfo& parameter : site.parameters) {
      uncut_.push_back(Resolve(parameter, site.index, used));
    }
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (used[i]) continue;
    throw Error(
        ExitCode::kUsage,
        fmt::format("--param-group '{}' matches no parameter of {}", options.groups[i].pattern,
                    plan.network.name),
        "parameters are named LAYER.weight and LAYER.bias; convoy summary lists the layers");
  }
  updates_.resize(uncut_.size());
  std::vector<int64_t> first_rows;
  for (const Resolved& resolved : uncut_) {
    first_rows.push_back(table_rows_);
    table_rows_ += resolved.shape[0];
  }
  const ArenaLayout layout = plan.ParameterLayout();
  const std::vector<OwnedRange> owned = OwnedRangesOf(plan);
  for (const ParameterSlice& slice : plan.parameters) {
    const auto found = std::find_if(uncut_.begin(), uncut_.end(), [&](const Resolved& resolved) {
      return resolved.name == slice.uncut.name;
    });
    CONVOY_CHECK(found != uncut_.end(), "{}", slice.uncut.name);
    const auto index = static_cast<size_t>(found - uncut_.begin());
    local_.emplace_back(index, UpdateRange{.begin = layout.Find(slice.uncut.name).offset,
                                           .count = slice.LocalShape().count(),
                                           .rows = slice.count,
                                           .first_row = first_rows[index] + slice.begin,
                                           .uncut_first_row = first_rows[index],
                                           .uncut_rows = found->shape[0],
                                           // Biases and batch norm have one value per channel.
                                           .adapts = found->shape.rank() > 1});
    if (plan.options.shards_update) local_.back().second.part = PartOf(local_.back().second, owned);
  }
}

Optimizer::Resolved Optimizer::Resolve(const ParameterInfo& parameter, int layer_index,
                                       std::vector<bool>& used) const {
  double lr = BaseLr(), lr_multiplier = parameter.spec.lr_multiplier;
  double decay = options_.weight_decay.value_or(DefaultWeightDecay(options_.rule));
  double decay_multiplier = parameter.spec.decay_multiplier;
  Resolved resolved{.name = parameter.name,
                    .layer_index = layer_index,
                    .shape = parameter.shape,
                    .lr = 0,
                    .lr_multiplier = 1,
                    .momentum = options_.momentum,
                    .weight_decay = 0,
                    .schedule = options_.lr_scheduler};
  for (size_t i = 0; i < options_.groups.size(); ++i) {
    const ParameterGroup& group = options_.groups[i];
    if (!MatchesPattern(group.pattern, parameter.name)) continue;
    used[i] = true;
    lr = group.lr.value_or(lr);
    lr_multiplier = group.lr_multiplier.value_or(lr_multiplier);
    decay = group.weight_decay.value_or(decay);
    decay_multiplier = group.decay_multiplier.value_or(decay_multiplier);
    resolved.momentum = group.momentum.value_or(resolved.momentum);
    resolved.schedule = group.lr_scheduler.value_or(resolved.schedule);
  }
  resolved.lr = lr;
  resolved.lr_multiplier = lr_multiplier;
  resolved.weight_decay = decay * decay_multiplier;
  return resolved;
}

UpdateOptions Optimizer::UpdatesOf(const std::vector<BucketRange>& buckets) const {
  UpdateOptions options{
      .rule = options_.rule, .clip_norm = options_.clip_norm, .table_rows = table_rows_};
  for (const auto& [index, range] : local_) options.ranges.push_back(range);
  for (const BucketRange& bucket : buckets) {
    // Ranges are in arena order, so those of a bucket are neighbours.
    const auto begins_before = [](const UpdateRange& range, int64_t element) {
      return range.begin < element;
    };
    const auto& ranges = options.ranges;
    const auto first = std::lower_bound(ranges.begin(), ranges.end(), bucket.begin, begins_before);
    const auto end =
        std::lower_bound(first, ranges.end(), bucket.begin + bucket.count, begins_before);
    options.buckets.push_back({.first = first - ranges.begin(), .count = end - first});
  }
  return options;
}

StepRates Optimizer::NextRates(const ScheduleInputs& inputs) {
  StepRates rates{.lr = options_.lr_scheduler.At(BaseLr(), inputs),
                  .learns = std::vector<bool>(layer_count_),
                  .parameters = {}};
  std::vector<ParameterRates> all;
  all.reserve(uncut_.size());
  for (size_t i = 0; i < uncut_.size(); ++i) {
    const Resolved& resolved = uncut_[i];
    all.push_back({.lr = resolved.lr_multiplier * resolved.schedule.At(resolved.lr, inputs),
                   .momentum = resolved.momentum,
                   .weight_decay = resolved.weight_decay,
                   .updates = updates_[i]});
    if (all.back().lr == 0) continue;
    ++updates_[i];
    rates.learns[static_cast<size_t>(resolved.layer_index)] = true;
  }
  rates.parameters.reserve(local_.size());
  for (const auto& [index, range] : local_) rates.parameters.push_back(all[index]);
  return rates;
}

void Optimizer::SetUpdates(const std::vector<int64_t>& updates) {
  CONVOY_CHECK(updates.size() == updates_.size(), "{} counts", updates.size());
  updates_ = updates;
}

std::vector<std::string> Optimizer::ParameterNames() const {
  std::vector<std::string> names;
  for (const Resolved& resolved : uncut_) names.push_back(resolved.name);
  return names;
}

double Optimizer::BaseLr() const { return options_.lr.value_or(DefaultLr(options_.rule)); }

}  // namespace convoy
