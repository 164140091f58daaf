// Every cut gives the run of one rank: in double precision, with ranks as threads, after 20 steps
// with dropout, mirror, colour and batches that do not divide evenly.
//
// The cuts add the same numbers in another order, which moves a sum by about 1e-16 of itself;
// training multiplies that from step to step, by less than 1e5 over these 20. Hence 1e-10. What a
// real mistake does is shown by the mutations at the end: they move the loss by more than 1e-3.
#include "tests/trainer/small_run.h"

namespace convoy {
namespace {

using Mutation = HarnessOptions::Mutation;

struct Case {
  std::string name;
  GridShape grid;
  bool batch_norm;
};

class CutEquality : public ::testing::TestWithParam<Case> {};

TEST_P(CutEquality, TheRunIsThatOfOneRank) {
  const RunResult one = RunSmall({1, 1}, {.batch_norm = GetParam().batch_norm});
  const RunResult cut = RunSmall(GetParam().grid, {.batch_norm = GetParam().batch_norm});
  EXPECT_LT(LargestDifference(one.losses, cut.losses), 1e-10);
  EXPECT_LT(LargestDifference(one.weights, cut.weights), 1e-10);
  EXPECT_LT(LargestDifference(one.states, cut.states), 1e-10);
}

INSTANTIATE_TEST_SUITE_P(Cuts, CutEquality,
                         ::testing::Values(Case{"TwoTowers", {1, 2}, false},
                                           Case{"TwoReplicas", {2, 1}, false},
                                           Case{"ThreeReplicas", {3, 1}, false},
                                           Case{"FourReplicas", {4, 1}, false},
                                           Case{"TwoReplicasOfTwoTowers", {2, 2}, false},
                                           Case{"FourReplicasOfTwoTowers", {4, 2}, false},
                                           Case{"TwoTowersBatchNorm", {1, 2}, true},
                                           Case{"TwoReplicasBatchNorm", {2, 1}, true},
                                           Case{"FourReplicasBatchNorm", {4, 1}, true},
                                           Case{"TwoReplicasOfTwoTowersBatchNorm", {2, 2}, true}),
                         [](const auto& instance) { return instance.param.name; });

struct RuleCase {
  std::string name;
  UpdateRule rule;
  double lr;
  double clip_norm = 0;
};

class RuleEquality : public ::testing::TestWithParam<RuleCase> {};

// Every optimiser under every cut, with a bound as above. Adam divides by the size of its
// gradients, so a small one passes its rounding on enlarged: by up to 1e3 here.
TEST_P(RuleEquality, TheRunIsThatOfOneRank) {
  const RuleCase& tested = GetParam();
  const SmallRunOptions options{
      .lr = tested.lr, .rule = tested.rule, .clip_norm = tested.clip_norm};
  constexpr double kBound = 1e-10;
  const RunResult one = RunSmall({1, 1}, options);
  EXPECT_GT(LargestDifference(one.weights, RunSmall({1, 1}, {.lr = tested.lr}).weights), 1e-6);
  for (const GridShape& grid : {GridShape{1, 2}, GridShape{3, 1}, GridShape{2, 2}}) {
    const RunResult cut = RunSmall(grid, options);
    EXPECT_LT(LargestDifference(one.losses, cut.losses), kBound);
    EXPECT_LT(LargestDifference(one.weights, cut.weights), kBound);
    EXPECT_LT(LargestDifference(one.states, cut.states), kBound);
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, RuleEquality,
                         ::testing::Values(RuleCase{"Nesterov", NesterovRule{}, 0.01},
                                           RuleCase{"Adam", AdamRule{}, 0.001},
                                           RuleCase{"AdamW", AdamWRule{}, 0.001},
                                           RuleCase{"Lars", LarsRule{.eta = 0.01}, 1},
                                           RuleCase{"PaperClipped", PaperRule{}, 0.02, 0.5},
                                           RuleCase{"LarsClipped", LarsRule{}, 1, 0.5}),
                         [](const auto& instance) { return instance.param.name; });

TEST(CutEquality, OverlapChangesNoBit) {
  const RunResult on = RunSmall({2, 2}, {.overlap = Overlap::kOn});
  const RunResult off = RunSmall({2, 2}, {.overlap = Overlap::kOff});
  EXPECT_EQ(on.losses, off.losses);
  EXPECT_EQ(on.weights, off.weights);
}

TEST(CutEquality, AFrozenLayerIsFrozenOnEveryRank) {
  const auto run = [](const GridShape& grid) { return RunSmall(grid, {.frozen = true}); };
  const RunResult one = run({1, 1});
  EXPECT_LT(LargestDifference(one.weights, run({1, 2}).weights), 1e-10);
  EXPECT_LT(LargestDifference(one.weights, run({2, 2}).weights), 1e-10);
  EXPECT_GT(LargestDifference(one.weights, RunSmall({1, 1}).weights), 1e-3);
}

TEST(CutEquality, TwoRunsAreBitwiseEqual) {
  const RunResult a = RunSmall({2, 2}, {.batch_norm = true}),
                  b = RunSmall({2, 2}, {.batch_norm = true});
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.states, b.states);
}

TEST(CutEqualityMutation, SwappedSlicesOfTheTowersAreNoticed) {
  const RunResult one = RunSmall({1, 1});
  EXPECT_GT(
      LargestDifference(one.losses, RunSmall({1, 2}, {.mutation = Mutation::kSwapSlices}).losses),
      1e-3);
}

TEST(CutEqualityMutation, ASkippedBucketIsNoticed) {
  const RunResult one = RunSmall({1, 1});
  EXPECT_GT(
      LargestDifference(one.losses, RunSmall({2, 1}, {.mutation = Mutation::kSkipBucket}).losses),
      1e-3);
}

}  // namespace
}  // namespace convoy
