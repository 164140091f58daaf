// What a step's communicators carry is what the list of its costs says, byte for byte: under every
// cut, with uneven rows and shares.
#include <algorithm>
#include <mutex>
#include <set>
#include <tuple>

#include "tests/trainer/small_run.h"
#include "trainer/plan/program_costs.h"

namespace convoy {
namespace {

struct Case {
  std::string name;
  GridShape grid;
  bool batch_norm = false;
  int accumulate = 1;
  UpdateRule rule = {};
  double clip_norm = 0;
  DType dtype = DType::kFloat64;
  std::vector<std::string> frozen = {};  // layers whose names begin so
  ShardUpdate shard_update = ShardUpdate::kOff;
  DType reduce_dtype = DType::kFloat32;
};

class Traffic : public ::testing::TestWithParam<Case> {};

// What, kind, axes, calls and bytes.
using Row = std::tuple<std::string, std::string, std::string, int64_t, int64_t>;

std::set<Row> Counted(const ProcessGrid& grid) {
  std::set<Row> rows;
  for (const ProcessGrid::Traffic& one : grid.CountedTraffic()) {
    if (one.axes.empty()) continue;
    rows.emplace(one.row.what, NameOf(one.row.kind), NameOf(one.axes), one.row.calls,
                 one.row.bytes);
  }
  return rows;
}

std::set<Row> Predicted(const std::vector<OperationCost>& costs) {
  std::set<Row> rows;
  for (const CollectiveCost& one : TrafficOf(costs)) {
    rows.emplace(one.what, NameOf(one.kind), NameOf(one.axes), one.calls, one.bytes);
  }
  return rows;
}

TEST_P(Traffic, IsWhatTheListOfCostsSays) {
  const Case& tested = GetParam();
  constexpr int64_t kBatch = 12;
  std::mutex mutex;
  int64_t bytes = 0;
  RunAsThreads(tested.grid.ranks(), {}, [&](World& world) {
    OptimizerOptions optimizer{.rule = tested.rule, .lr = 0.01, .clip_norm = tested.clip_norm};
    for (const std::string& name : tested.frozen) {
      optimizer.groups.push_back(ParameterGroup::Parse(name + "* lr=0"));
    }
    const bool is_oracle = tested.dtype == DType::kFloat64;
    Harness harness(
        world,
        {.network = SmallNetwork(tested.batch_norm),
         .grid = tested.grid,
         .batch = kBatch,
         .accumulate = tested.accumulate,
         .optimizer = optimizer,
         .make_backend = [&] { return is_oracle ? MakeOracleBackend(1) : MakeCpuBackend(1); },
         .dtype = tested.dtype,
         .shard_update = tested.shard_update,
         .reduce_dtype = tested.reduce_dtype});
    harness.grid().ResetTraffic();
    for (int micro = 0; micro < tested.accumulate; ++micro) {
      const int64_t part = harness.MicroBatchSize();
      Batch batch = harness.MakeBatch(
          0, micro * part, part, [](int64_t, int64_t i) { return static_cast<uint8_t>(i); },
          [](int64_t position) { return static_cast<int32_t>(position % 5); });
      batch.micro = {.index = micro, .count = tested.accumulate};
      batch.global_count = kBatch;
      harness.QueueStep(batch, 0);
    }
    const std::set<Row> counted = Counted(harness.grid());
    harness.FinishStep();

    const RankPlan& plan = harness.plan();
    const std::vector<BucketRange> buckets = PlanBuckets(plan);
    const bool needs_norms = tested.clip_norm > 0 || std::holds_alternative<LarsRule>(tested.rule);
    CostOptions options{.rows = harness.rows(),
                        .dtype = tested.dtype,
                        .master = is_oracle ? DType::kFloat64 : DType::kFloat32,
                        .reduce_dtype = tested.reduce_dtype,
                        .rule = tested.rule,
                        .loads_images = false};
    for (const LayerSite& site : SitesOf(plan.network)) {
      const auto is_its_name = [&](const std::string& name) {
        return site.layer.name.starts_with(name);
      };
      const bool is_frozen = std::any_of(tested.frozen.begin(), tested.frozen.end(), is_its_name);
      options.learns.push_back(!site.parameters.empty() && !is_frozen);
    }
    const std::vector<OperationCost> costs =
        CostsOf(plan, buckets,
                TrainingProgram(plan, buckets,
                                {.micro_batches = tested.accumulate, .needs_norms = needs_norms}),
                options);
    EXPECT_EQ(counted, Predicted(costs)) << "rank " << world.rank();
    const std::lock_guard lock(mutex);
    for (const OperationCost& cost : costs) bytes += cost.bytes();
  });
  EXPECT_GT(bytes, 0);
}

constexpr GridShape kEveryAxis{.replicas = 2, .shards = 2, .towers = 2};

INSTANTIATE_TEST_SUITE_P(
    Cuts, Traffic,
    ::testing::Values(
        Case{"Replicas", {.replicas = 3}}, Case{"Towers", {.towers = 2}},
        Case{"Shards", {.shards = 3}}, Case{"ShardsWithoutAShare", {.shards = 7}},
        Case{"ShardsAndTowers", {.shards = 2, .towers = 2}},
        Case{"ReplicasAndShards", {.replicas = 2, .shards = 3}}, Case{"EveryAxis", kEveryAxis},
        Case{.name = "BatchNorm", .grid = kEveryAxis, .batch_norm = true},
        Case{.name = "Accumulated", .grid = kEveryAxis, .batch_norm = true, .accumulate = 3},
        Case{.name = "Clipped", .grid = kEveryAxis, .clip_norm = 0.5},
        Case{.name = "Lars", .grid = {.shards = 3, .towers = 2}, .rule = LarsRule{}},
        Case{.name = "Frozen", .grid = kEveryAxis, .batch_norm = true, .frozen = {"conv"}},
        // Two of the ranks have no output of fc5, the only layer that learns.
        Case{.name = "OnlyFc5Learns",
             .grid = {.shards = 6, .towers = 2},
             .frozen = {"conv", "fc4", "fc6"}},
        Case{.name = "ShardedUpdate", .grid = kEveryAxis, .shard_update = ShardUpdate::kOn},
        Case{.name = "ShardedUpdateOfAFrozenPart",
             .grid = kEveryAxis,
             .batch_norm = true,
             .frozen = {"conv"},
             .shard_update = ShardUpdate::kOn},
        Case{.name = "ShardedUpdateClipped",
             .grid = {.replicas = 3},
             .clip_norm = 0.5,
             .shard_update = ShardUpdate::kOn},
        Case{.name = "ShardedLars",
             .grid = kEveryAxis,
             .rule = LarsRule{},
             .shard_update = ShardUpdate::kOn},
        Case{.name = "ShardedUpdateReducedInBFloat16",
             .grid = {.replicas = 3},
             .accumulate = 2,
             .dtype = DType::kFloat32,
             .shard_update = ShardUpdate::kOn,
             .reduce_dtype = DType::kBFloat16},
        Case{.name = "Float32", .grid = kEveryAxis, .batch_norm = true, .dtype = DType::kFloat32}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace convoy
