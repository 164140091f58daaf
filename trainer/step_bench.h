// trainer/step_bench.h - how long training steps take, where the time goes, and what the machine's
// own primitives would need: what `convoy bench step` measures.
#pragma once

#include <string>
#include <vector>

#include "comm/buckets.h"
#include "comm/grid.h"
#include "comm/world.h"
#include "core/host/log.h"
#include "layers/backend.h"
#include "layers/update_rules.h"
#include "trainer/run_config.h"

namespace convoy {

struct StepBenchOptions {
  std::string model = "alexnet2012";
  ModelOptions model_options;
  ComputeConfig compute;
  int64_t batch_size = 128;  // global
  int accumulate = 1;        // micro-batches of a step
  UpdateRule rule;
  double clip_norm = 0;  // OptimizerOptions::clip_norm
  Overlap overlap = Overlap::kOn;
  DType reduce_dtype = DType::kFloat32;
  ShardUpdate shard_update = ShardUpdate::kAuto;
  int warm_up = 2;
  int steps = 5;
  bool limits = true;  // measure the primitives too
};

struct OperationRow {
  std::string name;    // "conv1 forward"
  double seconds = 0;  // median over the timed steps
  double limit_s = 0;  // of only the vendor's primitive, in this process; 0: none
  double flops = 0, bytes = 0;
};

// Of one rank. Medians over the timed steps, seconds.
struct StepBenchResult {
  bool shards_update = false;  // EngineOptions::shard_update came to this
  std::string backend;
  std::vector<KernelMeasurement> measured;  // how kernels were chosen, if they were not known
  KernelChoices kernels;                    // in use
  std::string why_not_recorded;             // a step that was to be; empty otherwise
  std::vector<double> step_s;               // every timed step
  double forward_s = 0, backward_s = 0, exchange_wait_s = 0, reduce_wait_s = 0, update_s = 0;
  double images_per_s = 0;  // global batch / median step
  std::vector<OperationRow> operations;
  double limit_s = 0;  // sum of the operations' limits
  double first_loss = 0;
  int64_t peak_memory_bytes = 0;  // resident, of the process
  // What the steps need: memory after them, without what there was before the engine was made
  // (core/host/process_memory.h). 0 if the system does not say.
  int64_t memory_bytes = 0;
  // What the groups of this rank carry in one step.
  std::vector<ProcessGrid::Traffic> traffic;
  int64_t device_memory_bytes = 0;  // in use on the device, by everyone; 0 on the CPU
};

// Collective over the world: trains on one synthetic batch. Throws (kNumbers) when the loss is not
// one that a fresh network can have: then the times mean nothing.
StepBenchResult BenchStep(const StepBenchOptions& options, World& world, Log& log);

}  // namespace convoy
