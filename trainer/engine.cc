#include "trainer/engine.h"

#include <utility>

#include "trainer/ranks/compute_resources.h"

namespace convoy {

void RequireTrainable(const NetworkSpec& network, const GridShape& grid,
                      const OptimizerOptions& optimizer) {
  // Rank 0 stands for all: the whole network decides.
  Optimizer(optimizer, MakePlan(network, grid, 0));
}

namespace {

bool ShardsUpdate(const ComputeResources& resources, const EngineOptions& options) {
  if (options.use != StoreUse::kTraining || options.shard_update == ShardUpdate::kOff) return false;
  const bool has_copies = resources.grid->shape().row_parts() > 1;
  if (options.shard_update == ShardUpdate::kOn) return has_copies;
  // Norms take whole gradients on every rank, so that nothing is won.
  const bool needs_norms =
      NeedsNorms({.rule = options.optimizer.rule, .clip_norm = options.optimizer.clip_norm});
  const World& world = *resources.world;
  const bool is_cpu = resources.backend->device().kind == DeviceKind::kCpu;
  return has_copies && is_cpu && !needs_norms && world.local_size() == world.size();
}

}  // namespace

Engine::Engine(ComputeResources& resources, const NetworkSpec& network,
               const EngineOptions& options)
    : resources_(resources),
      options_(options),
      plan_(MakePlan(network, resources.grid->shape(), resources.world->rank(),
                     {.shards_update = ShardsUpdate(resources, options)})) {
  if (options.use == StoreUse::kTraining) optimizer_.emplace(options.optimizer, plan_);
  store_ = std::make_unique<ParameterStore>(backend(), plan_, options.dtype, options.use,
                                            GradientMemory(), StateNamesOf(options.optimizer.rule));
}

Engine::~Engine() = default;

std::vector<KernelMeasurement> Engine::Compile(int64_t rows, const Preprocessing& preprocessing,
                                               Log& log) {
  preprocessing_ = preprocessing;
  const bool trains = options_.use == StoreUse::kTraining;
  if (trains && HasBatchNorm(plan_.network)) grid().AddStatisticsGroups();
  std::vector<KernelMeasurement> measured =
      CompileTogether(resources_, log, [&] { model_ = MakeModel(rows, trains); });
  if (!trains) return measured;
  step_ = std::make_unique<TrainingStep>(
      StepParts{.backend = backend(),
                .stream = stream(),
                .grid = grid(),
                .plan = plan_,
                .store = *store_,
                .model = *model_,
                .optimizer = *optimizer_},
      options_.plan_buckets(plan_),
      TrainingStepOptions{.buckets = {.overlap = options_.overlap,
                                      .wire = options_.reduce_dtype,
                                      .allocate_wire = GradientMemory()},
                          .micro_batches = options_.micro_batches,
                          .records = options_.record_steps});
  return measured;
}

std::unique_ptr<RankModel> Engine::CompileForEvaluation(int64_t rows, Log& log) {
  std::unique_ptr<RankModel> model;
  CompileTogether(resources_, log, [&] { model = MakeModel(rows, false); });
  return model;
}

std::unique_ptr<RankModel> Engine::MakeModel(int64_t rows, bool training) const {
  return std::make_unique<RankModel>(
      backend(), plan_, *store_, grid(),
      RankModel::Options{.dtype = options_.dtype,
                         .rows = rows,
                         .training = training,
                         .accumulates = training && options_.micro_batches > 1,
                         .preprocessing = preprocessing_,
                         .exchange_memory = CollectiveMemoryOf(
                             resources_, grid().Along(Axis::kShard | Axis::kTower))});
}

Allocator Engine::GradientMemory() const {
  return CollectiveMemoryOf(resources_, grid().Along(Axis::kReplica | Axis::kShard));
}

Backend& Engine::backend() const { return *resources_.backend; }
Stream& Engine::stream() const { return *resources_.stream; }
ProcessGrid& Engine::grid() const { return *resources_.grid; }
World& Engine::world() const { return *resources_.world; }

}  // namespace convoy
