// trainer/engine.h - the machine of one rank, assembled in one place: the rank's part of the
// network, the memory of its parameters, and, for training, the optimiser and the step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/buckets.h"
#include "comm/grid.h"
#include "comm/grid_shape.h"
#include "comm/world.h"
#include "core/host/log.h"
#include "layers/backend.h"
#include "trainer/plan/plan.h"
#include "trainer/step/optimizer.h"
#include "trainer/step/parameter_store.h"
#include "trainer/step/rank_model.h"
#include "trainer/step/training_step.h"

namespace convoy {

struct ComputeResources;

struct EngineOptions {
  StoreUse use = StoreUse::kTraining;
  DType dtype = DType::kFloat32;  // of activations
  // The rest is for training.
  OptimizerOptions optimizer;
  Overlap overlap = Overlap::kOn;
  DType reduce_dtype = DType::kFloat32;  // as which gradients travel
  bool record_steps = true;              // if the device and the groups can
  int micro_batches = 1;                 // the most whose gradients make a step's
  ShardUpdate shard_update = ShardUpdate::kOff;
  // Returns the ranges of the gradients that are reduced as one.
  std::function<std::vector<BucketRange>(const RankPlan&)> plan_buckets = PlanBuckets;
};

// Throws what Engine would throw of these settings (kUsage): that the network cannot be cut like
// this, or that a group of the optimiser matches none of its parameters. Allocates nothing.
void RequireTrainable(const NetworkSpec& network, const GridShape& grid,
                      const OptimizerOptions& optimizer);

// Use: construct, fill store() (Initialize, or LoadCheckpoint), Compile, then step() or model().
class Engine {
 public:
  // Cuts the network for this rank and allocates the memory of its parameters. `resources` outlive
  // the engine. Throws (kUsage) as RequireTrainable, and (kDevice) if there is too little memory.
  Engine(ComputeResources& resources, const NetworkSpec& network, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Compiles model() for batches of `rows` rows a shard and, for training, makes step(). Returns
  // how kernels were chosen on this rank. Collective over the world.
  std::vector<KernelMeasurement> Compile(int64_t rows, const Preprocessing& preprocessing,
                                         Log& log);
  // Returns one more model of the same parameters and with the same preprocessing, which computes
  // no gradients. To be called after Compile; the engine outlives the model. Collective over the
  // world.
  std::unique_ptr<RankModel> CompileForEvaluation(int64_t rows, Log& log);

  const RankPlan& plan() const { return plan_; }
  ParameterStore& store() { return *store_; }
  RankModel& model() { return *model_; }
  // Only for training.
  Optimizer& optimizer() { return *optimizer_; }
  TrainingStep& step() { return *step_; }

  // Those of the resources.
  Backend& backend() const;
  Stream& stream() const;
  ProcessGrid& grid() const;
  World& world() const;

 private:
  std::unique_ptr<RankModel> MakeModel(int64_t rows, bool training) const;
  // Memory for what is summed over ranks.
  Allocator GradientMemory() const;

  ComputeResources& resources_;
  EngineOptions options_;
  RankPlan plan_;
  Preprocessing preprocessing_;
  std::optional<Optimizer> optimizer_;
  // In this order: each uses those before it.
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<RankModel> model_;
  std::unique_ptr<TrainingStep> step_;
};

}  // namespace convoy
