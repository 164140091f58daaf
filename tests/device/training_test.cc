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
                      Cut{"TwoTowersBatchNorm", {.towers = 2}, true},
                      Cut{"TwoReplicasBatchNorm", {.replicas = 2}, true}),
    [](const auto& instance) { return instance.param.name; });

TEST(DeviceCuts, SwappedSlicesOfTheTowersAreNoticed) {
  SmallRunOptions wrong = OnDevice();
  wrong.mutation = HarnessOptions::Mutation::kSwapSlices;
  EXPECT_GT(
      LargestDifference(RunSmall({}, OnDevice()).losses, RunSmall({.towers = 2}, wrong).losses),
      1e-3);
}

TEST(DeviceCuts, ASkippedBucketIsNoticed) {
  SmallRunOptions right = OnDevice(), wrong = OnDevice();
  right.lr = wrong.lr = 0.02;
  wrong.mutation = HarnessOptions::Mutation::kSkipBucket;
  EXPECT_GT(LargestDifference(RunSmall({}, right).losses, RunSmall({.replicas = 2}, wrong).losses),
            1e-3);
}

// The kernels that a first run chose serve both.
TEST(DeviceTraining, RecordedAndRepeatedRunsAreBitwiseEqual) {
  const RunResult first = RunSmall({}, OnDevice());
  for (const bool records : {true, false}) {
    SmallRunOptions options = OnDevice();
    options.records = records;
    options.make_backend = [&] { return MakeTestedBackend(1, first.kernel_choices); };
    const RunResult again = RunSmall({}, options);
    EXPECT_EQ(again.losses, first.losses) << (records ? "recorded" : "queued step by step");
    EXPECT_EQ(again.weights, first.weights);
    EXPECT_EQ(again.states, first.states);
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

TEST(DeviceTraining, OverlapChangesNoBit) {
  const RunResult first = RunSmall({.replicas = 2, .towers = 2}, OnDevice());
  SmallRunOptions off = OnDevice();
  off.overlap = Overlap::kOff;
  off.make_backend = [&] { return MakeTestedBackend(1, first.kernel_choices); };
  SmallRunOptions on = off;
  on.overlap = Overlap::kOn;
  EXPECT_EQ(RunSmall({.replicas = 2, .towers = 2}, on).weights,
            RunSmall({.replicas = 2, .towers = 2}, off).weights);
}

TEST(DeviceTrace, IsReproduced) {
  if (!HasTrace()) GTEST_SKIP() << "../shared/reference is not there";
  if (IsEmulated()) GTEST_SKIP() << "33 GFLOP a step in plain loops of one thread";
  for (const GridShape& grid :
       {GridShape{}, {.towers = 2}, {.replicas = 2}, {.replicas = 2, .towers = 2}}) {
    RunAsThreads(grid.ranks(), {}, [&](World& world) {
      ReproduceTrace(
          world, grid, [] { return MakeTestedBackend(1); }, DType::kFloat32, kTraceSteps,
          kSinglePrecisionTrace);
    });
  }
}

}  // namespace
}  // namespace convoy
