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
  const RunResult one = RunSmall({}, {.batch_norm = GetParam().batch_norm});
  const RunResult cut = RunSmall(GetParam().grid, {.batch_norm = GetParam().batch_norm});
  EXPECT_LT(LargestDifference(one.losses, cut.losses), 1e-10);
  EXPECT_LT(LargestDifference(one.weights, cut.weights), 1e-10);
  EXPECT_LT(LargestDifference(one.states, cut.states), 1e-10);
}

// Up to eight ranks; the last of eight that share five classes have none of them.
std::vector<Case> AllCuts() {
  std::vector<Case> cases;
  for (const bool batch_norm : {false, true}) {
    for (int replicas : {1, 2, 3, 4}) {
      for (int shards : {1, 2, 3, 4}) {
        for (int towers : {1, 2}) {
          const GridShape grid{.replicas = replicas, .shards = shards, .towers = towers};
          if (grid.ranks() == 1 || grid.ranks() > 8) continue;
          cases.push_back({fmt::format("Replicas{}Shards{}Towers{}{}", replicas, shards, towers,
                                       batch_norm ? "BatchNorm" : ""),
                           grid, batch_norm});
        }
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Cuts, CutEquality, ::testing::ValuesIn(AllCuts()),
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
  const RunResult one = RunSmall({}, options);
  EXPECT_GT(LargestDifference(one.weights, RunSmall({}, {.lr = tested.lr}).weights), 1e-6);
  for (const GridShape& grid :
       {GridShape{.towers = 2}, GridShape{.replicas = 3}, GridShape{.replicas = 2, .towers = 2},
        GridShape{.shards = 3}, GridShape{.replicas = 2, .shards = 2, .towers = 2}}) {
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

// Each rank updates a part, with the numbers that all would have: no bit is another, whatever the
// rule, the wire and the type.
struct ShardedCase {
  std::string name;
  GridShape grid;
  SmallRunOptions options;
};

class ShardedUpdate : public ::testing::TestWithParam<ShardedCase> {};

TEST_P(ShardedUpdate, ChangesNoBit) {
  SmallRunOptions options = GetParam().options;
  const RunResult whole = RunSmall(GetParam().grid, options);
  options.shard_update = ShardUpdate::kOn;
  const RunResult sharded = RunSmall(GetParam().grid, options);
  EXPECT_EQ(whole.losses, sharded.losses);
  EXPECT_EQ(whole.weights, sharded.weights);
  EXPECT_EQ(whole.states, sharded.states);
}

const auto kCpu = [] { return MakeCpuBackend(1); };

INSTANTIATE_TEST_SUITE_P(
    Cuts, ShardedUpdate,
    ::testing::Values(
        ShardedCase{"TwoReplicas", {.replicas = 2}, {}},
        ShardedCase{"ThreeReplicas", {.replicas = 3}, {.batch_norm = true}},
        ShardedCase{"EveryAxis", {.replicas = 2, .shards = 2, .towers = 2}, {}},
        ShardedCase{"Shards", {.shards = 3}, {.batch_norm = true}},
        ShardedCase{"Frozen", {.replicas = 2}, {.frozen = true}},
        ShardedCase{"NoOverlap", {.replicas = 2}, {.overlap = Overlap::kOff}},
        ShardedCase{"Accumulated", {.replicas = 2}, {.accumulate = 3}},
        ShardedCase{"Adam", {.replicas = 3}, {.lr = 0.001, .rule = AdamRule{}}},
        ShardedCase{"Lars", {.replicas = 2}, {.lr = 1, .rule = LarsRule{.eta = 0.01}}},
        ShardedCase{"Clipped", {.replicas = 2, .shards = 2}, {.clip_norm = 0.5}},
        ShardedCase{"Fp32", {.replicas = 2}, {.make_backend = kCpu, .dtype = DType::kFloat32}},
        ShardedCase{"Bf16",
                    {.replicas = 2, .shards = 2},
                    {.make_backend = kCpu, .dtype = DType::kBFloat16}},
        ShardedCase{"Bf16Lars",
                    {.replicas = 2},
                    {.lr = 1,
                     .rule = LarsRule{.eta = 0.01},
                     .make_backend = kCpu,
                     .dtype = DType::kBFloat16}},
        ShardedCase{
            "Bf16OnTheWire",
            {.replicas = 2},
            {.reduce_dtype = DType::kBFloat16, .make_backend = kCpu, .dtype = DType::kBFloat16}}),
    [](const auto& instance) { return instance.param.name; });

// Gradients that micro-batches add up are those of the batch at once; the last one is short. Batch
// norm would see other rows.
TEST(Accumulation, TheRunIsThatOfTheBatchAtOnce) {
  const RunResult at_once = RunSmall({});
  for (const int micro_batches : {2, 3, 5, 7}) {
    for (const GridShape& grid :
         {GridShape{}, GridShape{.shards = 2}, GridShape{.replicas = 2, .towers = 2}}) {
      const RunResult added = RunSmall(grid, {.accumulate = micro_batches});
      EXPECT_LT(LargestDifference(at_once.losses, added.losses), 1e-10) << micro_batches;
      EXPECT_LT(LargestDifference(at_once.weights, added.weights), 1e-10) << micro_batches;
      EXPECT_LT(LargestDifference(at_once.states, added.states), 1e-10) << micro_batches;
    }
  }
}

TEST(Accumulation, BatchNormNormalisesOverAMicroBatchOnEveryCut) {
  const SmallRunOptions options{.batch_norm = true, .accumulate = 3};
  const RunResult one = RunSmall({}, options);
  EXPECT_GT(LargestDifference(one.losses, RunSmall({}, {.batch_norm = true}).losses), 1e-3);
  for (const GridShape& grid : {GridShape{.shards = 2}, GridShape{.replicas = 2, .towers = 2}}) {
    EXPECT_LT(LargestDifference(one.losses, RunSmall(grid, options).losses), 1e-10);
  }
}

constexpr GridShape kEveryAxis{.replicas = 2, .shards = 2, .towers = 2};

TEST(CutEquality, OverlapChangesNoBit) {
  const RunResult on = RunSmall(kEveryAxis, {.overlap = Overlap::kOn});
  const RunResult off = RunSmall(kEveryAxis, {.overlap = Overlap::kOff});
  EXPECT_EQ(on.losses, off.losses);
  EXPECT_EQ(on.weights, off.weights);
}

TEST(CutEquality, AFrozenLayerIsFrozenOnEveryRank) {
  const auto run = [](const GridShape& grid) { return RunSmall(grid, {.frozen = true}); };
  const RunResult one = run({});
  EXPECT_LT(LargestDifference(one.weights, run({.towers = 2}).weights), 1e-10);
  EXPECT_LT(LargestDifference(one.weights, run({.replicas = 2, .towers = 2}).weights), 1e-10);
  EXPECT_LT(LargestDifference(one.weights, run({.replicas = 2, .shards = 2}).weights), 1e-10);
  EXPECT_GT(LargestDifference(one.weights, RunSmall({}).weights), 1e-3);
}

// Of twelve ranks two have no output of fc5, the only layer that learns: they take part in the
// exchanges of the others all the same.
TEST(CutEquality, ALayerThatLearnsOnSomeRanksOnlyIsNoReasonToStayAway) {
  const SmallRunOptions options{.groups = {"conv* lr-scheduler=piecewise:0=0",
                                           "fc4.* lr-scheduler=piecewise:0=0",
                                           "fc6.* lr-scheduler=piecewise:0=0"}};
  const RunResult one = RunSmall({}, options);
  const RunResult cut = RunSmall({.shards = 6, .towers = 2}, options);
  EXPECT_LT(LargestDifference(one.losses, cut.losses), 1e-10);
  EXPECT_LT(LargestDifference(one.weights, cut.weights), 1e-10);
}

TEST(CutEquality, TwoRunsAreBitwiseEqual) {
  const RunResult a = RunSmall(kEveryAxis, {.batch_norm = true}),
                  b = RunSmall(kEveryAxis, {.batch_norm = true});
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.states, b.states);
}

struct MutationCase {
  std::string name;
  GridShape grid;
  Mutation mutation;
  int accumulate = 1;
};

class CutEqualityMutation : public ::testing::TestWithParam<MutationCase> {};

TEST_P(CutEqualityMutation, IsNoticed) {
  const RunResult one = RunSmall({});
  const RunResult wrong = RunSmall(
      GetParam().grid, {.mutation = GetParam().mutation, .accumulate = GetParam().accumulate});
  EXPECT_GT(LargestDifference(one.losses, wrong.losses), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Mutations, CutEqualityMutation,
    ::testing::Values(
        MutationCase{"SwappedSlicesOfTheTowers", {.towers = 2}, Mutation::kSwapSlices},
        MutationCase{"SwappedSlicesOfTheShards", {.shards = 2}, Mutation::kSwapSlices},
        MutationCase{"ASkippedBucket", {.replicas = 2}, Mutation::kSkipBucket},
        MutationCase{"BucketsReducedOverTheReplicasAlone", {.shards = 2}, Mutation::kWrongAxes},
        MutationCase{"ASkippedMicroBatch", {}, Mutation::kSkipMicroBatch, 3},
        MutationCase{"LabelsOfOtherRows", {.shards = 2}, Mutation::kLabelsOfOthers}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace convoy
