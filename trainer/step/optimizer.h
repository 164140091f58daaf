// trainer/step/optimizer.h - how fast each parameter learns now: groups, multipliers and schedules
// turned into ranges of the arena for the backend's update kernel.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layers/updater.h"
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
  UpdateRule rule;
  std::optional<double> lr;  // unset: the rule's own, like the decay
  double momentum = 0.9;     // of the rules that have one
  std::optional<double> weight_decay;
  double clip_norm = 0;  // of the whole gradient; 0: not clipped
  Schedule lr_scheduler;
  std::vector<ParameterGroup> groups;  // later ones win
};

// The settings of one step.
struct StepRates {
  double lr = 0;  // of the run itself, without groups and multipliers: what is printed
  // One per layer of the uncut network: whether a parameter of it has a rate other than 0. The same
  // on every rank.
  std::vector<bool> learns;
  std::vector<ParameterRates> parameters;  // of this rank: one per range of UpdatesOf
};

class Optimizer {
 public:
  // Throws (kUsage) when a group matches no parameter of the uncut network.
  Optimizer(const OptimizerOptions& options, const RankPlan& plan);

  // What the backend compiles: one range per parameter of the rank, in arena order. `buckets`:
  // ranges of the arena that are updated together.
  UpdateOptions UpdatesOf(const std::vector<BucketRange>& buckets) const;
  // Returns the settings of the next step, at this moment. Counts the update of every parameter
  // that is not frozen.
  StepRates NextRates(const ScheduleInputs& inputs);
  // How many updates each parameter of the uncut network has had, in its order. Adam's correction
  // rests on it, so a checkpoint keeps it.
  const std::vector<int64_t>& updates() const { return updates_; }
  void SetUpdates(const std::vector<int64_t>& updates);
  // The names of these parameters.
  std::vector<std::string> ParameterNames() const;

 private:
  // A parameter of the uncut network with its settings resolved.
  struct Resolved {
    std::string name;
    int layer_index;
    Shape shape;
    double lr, lr_multiplier, momentum, weight_decay;
    Schedule schedule;
  };
  double BaseLr() const;
  Resolved Resolve(const ParameterInfo& parameter, int layer_index, std::vector<bool>& used) const;

  OptimizerOptions options_;
  size_t layer_count_;            // of the uncut network
  std::vector<Resolved> uncut_;   // every parameter of the network
  std::vector<int64_t> updates_;  // one per parameter
  // Parameters of this rank: their places in uncut_ and in the arena.
  std::vector<std::pair<size_t, UpdateRange>> local_;
  int64_t table_rows_ = 0;  // rows of all parameters of the network
};

// Whether `name` matches a shell pattern of '*' and '?'.
bool MatchesPattern(const std::string& pattern, const std::string& name);

}  // namespace convoy
