// What a step costs, as data: no rank runs here. That the bytes are those that communicators carry
// is the business of step/traffic_test.cc.
#include "trainer/plan/program_costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "layers/models.h"

namespace convoy {
namespace {

NetworkSpec AlexNet() { return MakeModel("alexnet2012"); }

struct StepOptions {
  GridShape grid;
  int rank = 0;
  int64_t global_batch = 128;
  ProgramOptions program;
  CostOptions costs;
  bool shards_update = false;
};

// `rows` of the options is worked out.
std::vector<OperationCost> StepOf(const NetworkSpec& network, StepOptions options) {
  const RankPlan plan =
      MakePlan(network, options.grid, options.rank, {.shards_update = options.shards_update});
  const std::vector<BucketRange> buckets = PlanBuckets(plan);
  options.costs.rows =
      options.global_batch / options.grid.row_parts() / options.program.micro_batches;
  return CostsOf(plan, buckets, TrainingProgram(plan, buckets, options.program), options.costs);
}

std::vector<std::string> NamesOf(const std::vector<OperationCost>& costs) {
  std::vector<std::string> names;
  for (const OperationCost& cost : costs) names.push_back(cost.name);
  return names;
}

std::map<std::string, int64_t> BytesByName(const std::vector<OperationCost>& costs) {
  std::map<std::string, int64_t> bytes;
  for (const OperationCost& cost : costs) {
    if (cost.bytes() > 0) bytes[cost.name] += cost.bytes();
  }
  return bytes;
}

int64_t BytesOf(const std::vector<OperationCost>& costs) {
  int64_t bytes = 0;
  for (const OperationCost& cost : costs) bytes += cost.bytes();
  return bytes;
}

int64_t FlopsOf(const std::vector<OperationCost>& costs) {
  int64_t flops = 0;
  for (const OperationCost& cost : costs) flops += cost.flops();
  return flops;
}

TEST(ProgramCosts, NameWhatAStepOfShardsAndTowersDoes) {
  EXPECT_EQ(NamesOf(StepOf(
                AlexNet(),
                {.grid = {.shards = 2, .towers = 2}, .rank = 3, .program = {.needs_norms = true}})),
            (std::vector<std::string>{"load",
                                      "gather rows",
                                      "forward conv1..pool2",
                                      "pool2 to conv3 forward",
                                      "forward conv3..pool5",
                                      "pool5 to fc6 forward",
                                      "forward fc6..drop6",
                                      "drop6 to fc7 forward",
                                      "forward fc7..drop7",
                                      "drop7 to fc8 forward",
                                      "forward fc8",
                                      "fc8 to loss forward",
                                      "forward loss",
                                      "backward loss",
                                      "fc8 to loss backward",
                                      "backward fc8",
                                      "drop7 to fc8 backward",
                                      "backward fc7..drop7",
                                      "reduce fc7..fc8",
                                      "drop6 to fc7 backward",
                                      "backward fc6..drop6",
                                      "reduce fc6",
                                      "pool5 to fc6 backward",
                                      "backward conv3..pool5",
                                      "pool2 to conv3 backward",
                                      "backward conv1..pool2",
                                      "reduce conv1..conv5",
                                      "norms",
                                      "update fc7..fc8",
                                      "update fc6",
                                      "update conv1..conv5"}));
}

TEST(ProgramCosts, StreamsAreThoseOnWhichOperationsRun) {
  for (const OperationCost& cost : StepOf(AlexNet(), {.grid = {.replicas = 2}})) {
    const CostStream expected = cost.name.starts_with("reduce")   ? CostStream::kCommunication
                                : cost.name.starts_with("update") ? CostStream::kUpdate
                                                                  : CostStream::kCompute;
    EXPECT_EQ(cost.stream, expected) << cost.name;
  }
}

// The exchange of the paper's towers, fp32 bytes of one image (Krizhevsky et al. 2012, figure 2).
TEST(ProgramCosts, TowersExchangeWhatThePapersGpusDo) {
  constexpr int64_t kImages = 128;
  CostOptions synthetic{.loads_images = false};
  const auto a = BytesByName(
      StepOf(AlexNet(), {.grid = {.towers = 2}, .global_batch = kImages, .costs = synthetic}));
  const auto b = BytesByName(StepOf(
      AlexNet(), {.grid = {.towers = 2}, .rank = 1, .global_batch = kImages, .costs = synthetic}));
  EXPECT_EQ(a, (std::map<std::string, int64_t>{{"pool2 to conv3 forward", kImages * 86528},
                                               {"pool5 to fc6 forward", kImages * 18432},
                                               {"drop6 to fc7 forward", kImages * 8192},
                                               {"drop7 to fc8 forward", kImages * 8192},
                                               {"drop6 to fc7 backward", kImages * 8192},
                                               {"pool5 to fc6 backward", kImages * 18432},
                                               {"pool2 to conv3 backward", kImages * 86528}}));
  // The gradient of the one-sided exchange goes to the tower that has no classifier.
  EXPECT_EQ(b, (std::map<std::string, int64_t>{{"pool2 to conv3 forward", kImages * 86528},
                                               {"pool5 to fc6 forward", kImages * 18432},
                                               {"drop6 to fc7 forward", kImages * 8192},
                                               {"drop7 to fc8 backward", kImages * 8192},
                                               {"drop6 to fc7 backward", kImages * 8192},
                                               {"pool5 to fc6 backward", kImages * 18432},
                                               {"pool2 to conv3 backward", kImages * 86528}}));
  // 60.03 MB of both together.
  int64_t sum = 0;
  for (const auto* tower : {&a, &b}) {
    for (const auto& [name, bytes] : *tower) sum += bytes;
  }
  EXPECT_EQ(sum, kImages * 2 * 234496);
}

TEST(ProgramCosts, TowersExchangeTheCropsThatTheyDecode) {
  const std::vector<OperationCost> costs = StepOf(AlexNet(), {.grid = {.towers = 2}});
  ASSERT_EQ(costs.front().name, "load");
  ASSERT_EQ(costs.front().collectives.size(), 2u);
  EXPECT_EQ(costs.front().collectives[0],
            (CollectiveCost{"crops", CollectiveKind::kAllGather, Axis::kTower, 1, 64 * 150528}));
  EXPECT_EQ(costs.front().collectives[1].what, "samples");
}

// 2 (p - 1) / p of 60,965,224 gradients. Their arena has one gap, after the last of them, and a
// bucket's end does not travel.
TEST(ProgramCosts, ReplicasReduceEveryGradientOnce) {
  for (const int micro_batches : {1, 2}) {
    const auto bytes = BytesByName(
        StepOf(AlexNet(), {.grid = {.replicas = 2}, .program = {.micro_batches = micro_batches}}));
    EXPECT_EQ(bytes, (std::map<std::string, int64_t>{{"reduce fc7..fc8", 4 * 20878312},
                                                     {"reduce fc6", 4 * 37752832},
                                                     {"reduce conv1..conv5", 4 * 2334080}}));
  }
  EXPECT_EQ(BytesOf(StepOf(AlexNet(), {.grid = {.replicas = 2}})), 243'860'896);
  EXPECT_EQ(BytesOf(StepOf(AlexNet(),
                           {.grid = {.replicas = 2}, .costs = {.reduce_dtype = DType::kBFloat16}})),
            243'860'896 / 2);
  EXPECT_EQ(BytesOf(StepOf(AlexNet(), {.grid = {.replicas = 8}})), 7 * (243'860'896 / 4));
}

// A reduce-scatter and a gather bring what an all-reduce does, but for the ends of the parts; what
// layers read in bf16 is gathered in bf16. Every rank updates its part of the large tensors.
TEST(ProgramCosts, AShardedUpdateSendsWhatAnAllReduceDoes) {
  const StepOptions sharded{.grid = {.replicas = 4}, .shards_update = true};
  const auto costs = StepOf(AlexNet(), sharded);
  const int64_t replicas = BytesOf(StepOf(AlexNet(), {.grid = {.replicas = 4}}));
  EXPECT_NEAR(static_cast<double>(BytesOf(costs)), static_cast<double>(replicas), 10'000);
  StepOptions bf16 = sharded;
  bf16.costs.dtype = DType::kBFloat16;
  EXPECT_NEAR(static_cast<double>(BytesOf(StepOf(AlexNet(), bf16))),
              0.75 * static_cast<double>(replicas), 30'000);
  int64_t updated = 0, reduced = 0;
  for (const OperationCost& cost : costs) {
    if (cost.name.starts_with("update")) updated += cost.parameters;
    if (cost.name.starts_with("reduce")) reduced += cost.parameters;
  }
  EXPECT_EQ(reduced, 60965224);
  EXPECT_NEAR(static_cast<double>(updated), 60965224 / 4.0, 10'000);
}

// Of 32 images each: the inputs of fc6, fc7 and fc8 forward, their gradients backward, all outputs
// for the loss, 16 bytes of every row, and the gradients of the convolutions.
TEST(ProgramCosts, ShardsOfASmallBatchSendLittle) {
  const auto bytes = BytesByName(StepOf(AlexNet(), {.grid = {.shards = 2}, .global_batch = 64}));
  EXPECT_EQ(bytes, (std::map<std::string, int64_t>{{"gather rows", 32 * 16},
                                                   {"pool5 to fc6 forward", 32 * 36864},
                                                   {"drop6 to fc7 forward", 64 * 8192},
                                                   {"drop7 to fc8 forward", 64 * 8192},
                                                   {"fc8 to loss forward", 64 * 2000},
                                                   {"drop7 to fc8 backward", 64 * 8192},
                                                   {"drop6 to fc7 backward", 64 * 8192},
                                                   {"pool5 to fc6 backward", 32 * 36864},
                                                   {"reduce conv1..conv5", 4 * 2334080}}));
  EXPECT_EQ(BytesOf(StepOf(AlexNet(), {.grid = {.shards = 2}, .global_batch = 64})), 13'921'280);
  EXPECT_EQ(13'921'280 - 64 * 2000 - 32 * 16, 13'792'768) << "activations and gradients alone";
}

// In units of (p - 1) / p, replicas send 2 * 58,631,144 gradients of the fully connected layers.
// Shards send of every image the inputs of these layers twice, 2 * 17,408 elements, and once 1,000
// outputs and 16 bytes of the row: they are even at 117,262,288 / 35,820 = 3,273.7 images.
TEST(ProgramCosts, ShardsSendLessThanReplicasBelowABatchOf3273) {
  for (const int ranks : {2, 4, 8}) {
    const int64_t replicas =
        BytesOf(StepOf(AlexNet(), {.grid = {.replicas = ranks}, .global_batch = 4096}));
    const auto shards = [&](int64_t batch) {
      return BytesOf(StepOf(AlexNet(), {.grid = {.shards = ranks}, .global_batch = batch}));
    };
    EXPECT_LT(shards(3272), replicas) << ranks;
    EXPECT_GT(shards(3272 + ranks), replicas) << ranks;
  }
}

TEST(ProgramCosts, EveryRankSumsItsPartOfTheArithmetic) {
  constexpr int64_t kImages = 96;
  for (const GridShape& grid :
       {GridShape{}, GridShape{.replicas = 3}, GridShape{.towers = 2}, GridShape{.shards = 4},
        GridShape{.replicas = 2, .shards = 3, .towers = 2}}) {
    for (const int micro_batches : {1, 2}) {
      int64_t flops = 0;
      for (int rank = 0; rank < grid.ranks(); ++rank) {
        flops += FlopsOf(StepOf(AlexNet(), {.grid = grid,
                                            .rank = rank,
                                            .global_batch = kImages,
                                            .program = {.micro_batches = micro_batches}}));
      }
      EXPECT_EQ(flops, kImages * TrainingFlops(AlexNet())) << grid.ranks();
    }
  }
}

TEST(ProgramCosts, BatchNormSumsTwoValuesPerChannelAndACount) {
  const NetworkSpec network = MakeModel("alexnet-bn");
  int64_t forward = 0, backward = 0, layers = 0;
  for (const LayerSite& site : SitesOf(network)) {
    if (!std::holds_alternative<BatchNorm>(site.layer.layer)) continue;
    ++layers;
    // A rank of two with the larger share of n values gets n of them.
    forward += 8 * (2 * site.input.back() + 1);
    backward += 8 * 2 * site.input.back();
  }
  ASSERT_GT(layers, 0);
  const auto costs = StepOf(network, {.grid = {.replicas = 2}});
  int checked = 0;
  for (const OperationCost& cost : costs) {
    const bool is_forward = cost.name.starts_with("forward");
    if (!is_forward && !cost.name.starts_with("backward")) continue;
    ++checked;
    ASSERT_EQ(cost.statistics.size(), 1u);
    EXPECT_EQ(cost.statistics[0].calls, layers);
    EXPECT_EQ(cost.statistics[0].bytes, is_forward ? forward : backward);
  }
  EXPECT_EQ(checked, 2);
}

TEST(ProgramCosts, AnEvaluationReducesNothing) {
  const RankPlan plan = MakePlan(MakeModel("alexnet-bn"), {.replicas = 2}, 0);
  const std::vector<OperationCost> costs = CostsOf(plan, {}, EvaluationProgram(plan), {.rows = 64});
  EXPECT_EQ(BytesOf(costs), 0);
  EXPECT_EQ(FlopsOf(costs), 64 * 2 * CountsOf(plan.network).multiply_adds);
}

TEST(ProgramCosts, WhatLearnsNothingIsNeitherReducedNorRunBackward) {
  const NetworkSpec network = AlexNet();
  std::vector<bool> learns(network.layers.size());
  for (size_t i = 0; i < learns.size(); ++i) learns[i] = network.layers[i].name.starts_with("fc");
  const auto costs = StepOf(network, {.grid = {.shards = 2}, .costs = {.learns = learns}});
  const auto bytes = BytesByName(costs);
  EXPECT_FALSE(bytes.contains("reduce conv1..conv5"));
  EXPECT_FALSE(bytes.contains("pool5 to fc6 backward"));
  EXPECT_TRUE(bytes.contains("drop6 to fc7 backward"));
  const auto flops_of = [&](const std::string& name) {
    return std::find_if(costs.begin(), costs.end(),
                        [&](const OperationCost& cost) { return cost.name == name; })
        ->flops();
  };
  EXPECT_EQ(flops_of("backward conv1..pool5"), 0);
  EXPECT_EQ(flops_of("backward fc6..drop6"), flops_of("forward fc6..drop6"));
}

TEST(ProgramCosts, TrafficAddsUpWhatHasOneName) {
  const auto costs = StepOf(AlexNet(), {.grid = {.shards = 2}, .program = {.micro_batches = 4}});
  int64_t bytes = 0;
  for (const CollectiveCost& one : TrafficOf(costs)) {
    bytes += one.bytes;
    EXPECT_EQ(one.calls, one.what == "conv1..conv5" ? 1 : 4) << one.what;
  }
  EXPECT_EQ(bytes, BytesOf(costs));
}

}  // namespace
}  // namespace convoy
