// Training on a CUDA device, emulated or real: what tests/trainer shows for the oracle holds there
// too. Several ranks are threads that share the device and stage their collectives through the
// host.
//
// fp32: a sum differs by about 1e-7 of itself with its order. At a learning rate of 2e-5 training
// multiplies that by less than ten over twenty steps; real mistakes, see the mutations, move the
// loss by more than 1e-3.
#include "tests/backend/tested.h"
#include "tests/trainer/small_run.h"
#include "tests/trainer/trace_check.h"

namespace convoy {
namespace {

constexpr double kFirstLoss = 1e-6, kTwentySteps = 1e-5;

SmallRunOptions OnDevice(bool batch_norm = false) {
  return {.batch_norm = batch_norm,
          .lr = 2e-5,
          .make_backend = [] { return MakeTestedBackend(1); },
          .dtype = DType::kFloat32};
}

void ExpectSameRun(const RunResult& got, const RunResult& want) {
  EXPECT_NEAR(got.losses.front(), want.losses.front(), kFirstLoss * want.losses.front());
  EXPECT_LT(LargestDifference(got.losses, want.losses), kTwentySteps);
  EXPECT_LT(LargestDifference(got.weights, want.weights), kTwentySteps);
  EXPECT_LT(LargestDifference(got.states, want.states), kTwentySteps);
}

TEST(DeviceTraining, OneRankTrainsAsTheOracleDoes) {
  for (const bool batch_norm : {false, true}) {
    SmallRunOptions oracle{.batch_norm = batch_norm, .lr = 2e-5};
    ExpectSameRun(RunSmall({}, OnDevice(batch_norm)), RunSmall({}, oracle));
  }
}

struct Cut {
  std::string name;
  GridShape grid;
  bool batch_norm;
};

class DeviceCuts : public ::testing::TestWithParam<Cut> {};

TEST_P(DeviceCuts, TheRunIsThatOfOneRank) {
  const SmallRunOptions options = OnDevice(GetParam().batch_norm);
  ExpectSameRun(RunSmall(GetParam().grid, options), RunSmall({}, options));
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceCuts,
    ::testing::Values(Cut{"TwoTowers", {.towers = 2}, false},
                      Cut{"TwoReplicas", {.replicas = 2}, false},
                      Cut{"FourReplicas", {.replicas = 4}, false},
                      Cut{"TwoReplicasOfTwoTowers", {.replicas = 2, .towers = 2}, false},
                      Cut{"TwoShards", {.shards = 2}, false},
                      Cut{"ThreeShards", {.shards = 3}, false},
                      Cut{"TwoReplicasOfTwoShards", {.replicas = 2, .shards = 2}, false},
                      Cut{"TwoShardsOfTwoTowers", {.shards = 2, .towers = 2}, false},
                      // The last of them has none of the five classes.
                      Cut{"ThreeShardsOfTwoTowers", {.shards = 3, .towers = 2}, false},
                      Cut{"TwoShardsBatchNorm", {.shards = 2}, true},
                      Cut{"TwoTowersBatchNorm", {.towers = 2}, true},
                      Cut{"TwoReplicasBatchNorm", {.replicas = 2}, true}),
    [](const auto& instance) { return instance.param.name; });

TEST(DeviceCuts, SwappedSlicesAreNoticed) {
  SmallRunOptions wrong = OnDevice();
  wrong.mutation = HarnessOptions::Mutation::kSwapSlices;
  const std::vector<double> right = RunSmall({}, OnDevice()).losses;
  for (const GridShape& grid : {GridShape{.towers = 2}, GridShape{.shards = 2}}) {
    EXPECT_GT(LargestDifference(right, RunSmall(grid, wrong).losses), 1e-3);
  }
}

// The last micro-batch is short, and a batch of two images has fewer of them.
TEST(DeviceAccumulation, TheRunIsThatOfTheBatchAtOnce) {
  const RunResult at_once = RunSmall({}, OnDevice());
  for (const int micro_batches : {2, 3, 7}) {
    for (const GridShape& grid : {GridShape{}, GridShape{.shards = 2}}) {
      SmallRunOptions options = OnDevice();
      options.accumulate = micro_batches;
      ExpectSameRun(RunSmall(grid, options), at_once);
    }
  }
}

TEST(DeviceAccumulation, ASkippedMicroBatchIsNoticed) {
  SmallRunOptions right = OnDevice(), wrong = OnDevice();
  right.lr = wrong.lr = 0.02;
  right.accumulate = wrong.accumulate = 3;
  wrong.mutation = HarnessOptions::Mutation::kSkipMicroBatch;
  EXPECT_GT(LargestDifference(RunSmall({}, right).losses, RunSmall({}, wrong).losses), 1e-3);
}

TEST(DeviceCuts, ASkippedBucketIsNoticed) {
  SmallRunOptions right = OnDevice(), wrong = OnDevice();
  right.lr = wrong.lr = 0.02;
  wrong.mutation = HarnessOptions::Mutation::kSkipBucket;
  EXPECT_GT(LargestDifference(RunSmall({}, right).losses, RunSmall({.replicas = 2}, wrong).losses),
            1e-3);
}

// The kernels that a first run chose serve both. Micro-batches have three recordings: the first,
// the last, and those between, which are alike.
TEST(DeviceTraining, RecordedAndRepeatedRunsAreBitwiseEqual) {
  for (const int micro_batches : {1, 4}) {
    SmallRunOptions options = OnDevice();
    options.accumulate = micro_batches;
    const RunResult first = RunSmall({}, options);
    EXPECT_EQ(first.why_not_recorded, "");
    for (const bool records : {true, false}) {
      options.records = records;
      options.make_backend = [&] { return MakeTestedBackend(1, first.kernel_choices); };
      const RunResult again = RunSmall({}, options);
      EXPECT_EQ(again.losses, first.losses) << (records ? "recorded" : "queued step by step");
      EXPECT_EQ(again.weights, first.weights);
      EXPECT_EQ(again.states, first.states);
    }
  }
}

TEST(DeviceTraining, StepsThatAreQueuedAheadChangeNoBit) {
  const RunResult ahead = RunSmall({}, OnDevice());
  SmallRunOptions one_by_one = OnDevice();
  one_by_one.queues_ahead = false;
  one_by_one.make_backend = [&] { return MakeTestedBackend(1, ahead.kernel_choices); };
  const RunResult want = RunSmall({}, one_by_one);
  EXPECT_EQ(ahead.losses, want.losses);
  EXPECT_EQ(ahead.weights, want.weights);
}

// Fresh work is queued, and recorded, when other layers learn.
TEST(DeviceTraining, AFrozenLayerStaysAsItWas) {
  SmallRunOptions frozen = OnDevice(), oracle{.frozen = true, .lr = 2e-5};
  frozen.frozen = true;
  ExpectSameRun(RunSmall({}, frozen), RunSmall({}, oracle));
}

TEST(DeviceTraining, AShardedUpdateChangesNoBit) {
  SmallRunOptions sharded = OnDevice();
  sharded.shard_update = ShardUpdate::kOn;
  const GridShape grid{.replicas = 2, .shards = 2};
  const RunResult whole = RunSmall(grid, OnDevice()), parts = RunSmall(grid, sharded);
  EXPECT_EQ(whole.losses, parts.losses);
  EXPECT_EQ(whole.weights, parts.weights);
  EXPECT_EQ(whole.states, parts.states);
}

TEST(DeviceTraining, OverlapChangesNoBit) {
  for (const GridShape& grid :
       {GridShape{.replicas = 2, .towers = 2}, GridShape{.replicas = 2, .shards = 2}}) {
    const RunResult first = RunSmall(grid, OnDevice());
    SmallRunOptions off = OnDevice();
    off.overlap = Overlap::kOff;
    off.make_backend = [&] { return MakeTestedBackend(1, first.kernel_choices); };
    SmallRunOptions on = off;
    on.overlap = Overlap::kOn;
    EXPECT_EQ(RunSmall(grid, on).weights, RunSmall(grid, off).weights);
  }
}

TEST(DeviceTrace, IsReproduced) {
  if (!HasTrace()) GTEST_SKIP() << "../shared/reference is not there";
  if (IsEmulated()) GTEST_SKIP() << "33 GFLOP a step in plain loops of one thread";
  for (const GridShape& grid :
       {GridShape{}, {.towers = 2}, {.replicas = 2}, {.replicas = 2, .towers = 2}, {.shards = 2}}) {
    RunAsThreads(grid.ranks(), {}, [&](World& world) {
      ReproduceTrace(
          world, grid, [] { return MakeTestedBackend(1); }, DType::kFloat32, kTraceSteps,
          kSinglePrecisionTrace);
    });
  }
}

}  // namespace
}  // namespace convoy
