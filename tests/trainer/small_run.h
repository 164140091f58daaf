// tests/trainer/small_run.h - twenty steps of a small two-tower network, with everything that a cut
// touches: dropout, mirror, colour, and batches that do not divide evenly.
#pragma once

#include "tests/trainer/harness.h"

namespace convoy {

struct SmallRunOptions {
  bool batch_norm = false;
  HarnessOptions::Mutation mutation = HarnessOptions::Mutation::kNone;
  Overlap overlap = Overlap::kOn;
  ShardUpdate shard_update = ShardUpdate::kOff;
  DType reduce_dtype = DType::kFloat32;
  bool frozen = false;              // conv1 stops learning after the second epoch
  std::vector<std::string> groups;  // of parameters (ParameterGroup::Parse)
  double lr = 0.02;
  UpdateRule rule;
  double clip_norm = 0;
  std::function<std::unique_ptr<Backend>()> make_backend = [] { return MakeOracleBackend(1); };
  DType dtype = DType::kFloat64;
  bool records = true;
  int accumulate = 1;
  bool queues_ahead = true;  // as many steps as a training run does
};

struct RunResult {
  KernelChoices kernel_choices;  // of rank 0
  std::string why_not_recorded;  // TrainingStep::why_not_recorded() of rank 0
  std::vector<double> losses;
  std::vector<double> weights;  // all, uncut
  std::vector<double> states;   // of the optimiser, all, uncut
};

// Returns a two-tower network of a thousand weights with everything that a cut touches: grouped and
// ungrouped convolutions, LRN inside a tower or batch norm, overlapping pools, dropout, three fully
// connected layers.
NetworkSpec SmallNetwork(bool batch_norm);

// Ranks as threads. Expects all of them to see the same losses.
RunResult RunSmall(const GridShape& grid, const SmallRunOptions& options = {});

}  // namespace convoy
