// What a rank needs, as data. That it is what a process uses is measured by system/traffic_test.py.
#include "trainer/plan/rank_memory.h"

#include <gtest/gtest.h>

#include <map>

#include "layers/models.h"

namespace convoy {
namespace {

std::map<std::string, int64_t> UsesOf(const GridShape& grid, MemoryOptions options, int rank = 0) {
  const RankPlan plan = MakePlan(MakeModel("alexnet2012"), grid, rank);
  std::map<std::string, int64_t> uses;
  for (const MemoryUse& use : MemoryOf(plan, PlanBuckets(plan), options)) {
    uses[use.name] += use.bytes;
  }
  return uses;
}

// 60,965,224 parameters, and the gap after the last of them.
constexpr int64_t kArena = 60'965'248;

TEST(RankMemory, ArenasAreAsLargeAsTheParametersOfTheRank) {
  auto uses = UsesOf({.replicas = 2}, {.rows = 64, .optimizer_states = 2});
  EXPECT_EQ(uses["parameters"], 4 * kArena);
  EXPECT_EQ(uses["gradients"], 4 * kArena);
  EXPECT_EQ(uses["optimiser states"], 2 * 4 * kArena);
  EXPECT_FALSE(uses.contains("parameters in bf16"));
  EXPECT_FALSE(uses.contains("gradients that travel as bf16"));
  EXPECT_FALSE(uses.contains("exchange of activations"));
  uses = UsesOf({.towers = 2}, {.rows = 64}, 1);
  // Half of conv1's weights, and of its biases, leave a gap of 16 each.
  EXPECT_EQ(uses["parameters"], 4 * (28'434'112 + 2 * 16));
}

TEST(RankMemory, AShardedUpdateKeepsAPartOfTheStates) {
  const RankPlan plan =
      MakePlan(MakeModel("alexnet2012"), {.replicas = 4}, 0, {.shards_update = true});
  for (const MemoryUse& use : MemoryOf(plan, PlanBuckets(plan), {})) {
    if (use.name != "optimiser states") continue;
    EXPECT_NEAR(static_cast<double>(use.bytes), static_cast<double>(kArena), 100'000);
  }
}

TEST(RankMemory, TypesOfTwoBytesHaveCopiesOfTheirOwn) {
  auto uses = UsesOf({.replicas = 2},
                     {.rows = 64, .dtype = DType::kBFloat16, .reduce_dtype = DType::kBFloat16});
  EXPECT_EQ(uses["parameters in bf16"], 2 * kArena);
  EXPECT_EQ(uses["gradients that travel as bf16"], 2 * kArena);
  // One rank reduces nothing.
  EXPECT_FALSE(
      UsesOf({}, {.reduce_dtype = DType::kBFloat16}).contains("gradients that travel as bf16"));
}

TEST(RankMemory, ActivationsGrowWithTheRows) {
  auto few = UsesOf({}, {.rows = 256}), many = UsesOf({}, {.rows = 512});
  for (const char* name : {"activations", "gradients of activations", "places of maxima"}) {
    // Large blocks are rounded up to whole huge pages.
    EXPECT_NEAR(static_cast<double>(many[name]), 2.0 * static_cast<double>(few[name]),
                0.04 * static_cast<double>(many[name]))
        << name;
  }
  EXPECT_EQ(few["weights of convolutions"], many["weights of convolutions"]);
  // conv1's output and its gradient, which is the largest, and conv2's.
  EXPECT_GE(few["gradients of activations"], 256 * 4 * (55 * 55 * 96 + 27 * 27 * 96));
}

// Blocks of pool2's maps of both towers, and one more.
TEST(RankMemory, ExchangesShareTheRoomOfTheLargest) {
  EXPECT_EQ(UsesOf({.towers = 2}, {.rows = 64})["exchange of activations"],
            3 * 64 * 13 * 13 * 128 * 4);
  EXPECT_EQ(UsesOf({.shards = 2}, {.rows = 64})["exchange of activations"], 3 * 64 * 9216 * 4);
}

}  // namespace
}  // namespace convoy
