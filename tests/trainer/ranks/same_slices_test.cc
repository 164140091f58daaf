#include "trainer/ranks/same_slices.h"

#include <gtest/gtest.h>

#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/trainer/harness.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

// Two convolutions with batch norm, so that there are buffers, and two fully connected layers.
NetworkSpec Network() {
  const auto conv = [](int out) {
    return Convolution{.out_channels = out, .kernel = 3, .padding = Padding::Same(1)};
  };
  return {.name = "small",
          .input = Shape{5, 5, 3},
          .classes = 3,
          .layers = {{"conv1", conv(4)},
                     {"norm1", BatchNorm{}},
                     {"conv2", conv(4)},
                     {"fc3", FullyConnected{.out_features = 8}},
                     {"fc4", FullyConnected{.out_features = 3}},
                     {"loss", SoftmaxCrossEntropy{}}}};
}

enum class Arena { kParameters, kState, kBuffers };

// One bit of the first number of a tensor is changed on a rank.
struct Fault {
  int rank = 0;
  Arena arena = Arena::kParameters;
  std::string tensor;
  int bit = 0;
};

void Inflict(const Fault& fault, Harness& harness) {
  ParameterStore& store = harness.store();
  const Tensor tensor =
      fault.arena == Arena::kBuffers
          ? store.buffer_layout().View(store.buffers(), fault.tensor)
          : store.parameter_layout().View(
                fault.arena == Arena::kState ? store.states()[0] : store.parameters(),
                fault.tensor);
  uint64_t bits = 0;
  std::memcpy(&bits, tensor.data, sizeof(bits));
  bits ^= uint64_t{1} << fault.bit;
  std::memcpy(tensor.data, &bits, sizeof(bits));
}

// Returns what the ranks are told after a step and these faults; empty if all is well. Expects the
// same of all of them.
std::string Compare(const GridShape& grid, const std::vector<Fault>& faults = {},
                    ShardUpdate shard_update = ShardUpdate::kOff) {
  std::set<std::string> messages;
  std::mutex mutex;
  RunAsThreads(grid.ranks(), {}, [&](World& world) {
    Harness harness(world,
                    {.network = Network(), .grid = grid, .batch = 7, .shard_update = shard_update});
    harness.Step(harness.MakeBatch(
        0, 0, 7,
        [](int64_t position, int64_t i) {
          return static_cast<uint8_t>((7 * position + 3 * i) % 251);
        },
        [](int64_t position) { return static_cast<int32_t>(position % 3); }));
    RequireSameSlices(harness.engine(), 1);
    for (const Fault& fault : faults) {
      if (fault.rank == world.rank()) Inflict(fault, harness);
    }
    std::string own;
    try {
      RequireSameSlices(harness.engine(), 40);
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kNumbers);
      own = error.what();
    }
    const std::lock_guard lock(mutex);
    messages.insert(own);
  });
  EXPECT_EQ(messages.size(), 1u) << "the ranks are told different things";
  return *messages.begin();
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(SameSlices, AreThoseOfEveryCut) {
  for (const GridShape& grid :
       {GridShape{}, GridShape{.towers = 2}, GridShape{.replicas = 3}, GridShape{.shards = 4},
        GridShape{.replicas = 2, .shards = 2, .towers = 2}}) {
    EXPECT_EQ(Compare(grid), "");
  }
}

TEST(SameSlices, ARankWithOneChangedBitIsNamed) {
  for (const int bit : {0, 63}) {
    const std::string message =
        Compare({.replicas = 3}, {{.rank = 1, .tensor = "conv2.weight", .bit = bit}});
    EXPECT_TRUE(Contains(message, "step 40: conv2.weight of rank 1 (")) << message;
    EXPECT_TRUE(Contains(message, ") differs from that of ranks 0 (")) << message;
    EXPECT_TRUE(Contains(message, ", 2 (")) << message;
    EXPECT_FALSE(Contains(message, "no majority")) << message;
    EXPECT_FALSE(Contains(message, "other tensor")) << message;
  }
}

TEST(SameSlices, TheMajorityIsTakenForRight) {
  EXPECT_TRUE(Contains(Compare({.replicas = 3}, {{.rank = 0, .tensor = "fc3.bias"}}),
                       "fc3.bias of rank 0 ("));
  const std::string message = Compare({.replicas = 5}, {{.rank = 0, .tensor = "fc3.bias"},
                                                        {.rank = 3, .tensor = "fc3.bias", .bit = 1},
                                                        {.rank = 3, .tensor = "fc4.bias"}});
  EXPECT_TRUE(Contains(message, "fc3.bias of ranks 0 (")) << message;
  EXPECT_TRUE(Contains(message, "), 3 (")) << message;
  EXPECT_TRUE(Contains(message, ") differ from that of ranks 1 (")) << message;
  EXPECT_TRUE(Contains(message, "and so do 1 other tensor")) << message;
}

TEST(SameSlices, OfTwoTheFirstIsTheReferenceAndTheMessageSaysSo) {
  const std::string message = Compare({.replicas = 2}, {{.rank = 0, .tensor = "fc4.weight"}});
  EXPECT_TRUE(Contains(message, "fc4.weight of rank 1 (")) << message;
  EXPECT_TRUE(Contains(message, "differs from that of rank 0 (")) << message;
  EXPECT_TRUE(Contains(message, "there is no majority")) << message;
}

TEST(SameSlices, StatesAndBuffersAreCompared) {
  EXPECT_TRUE(Contains(
      Compare({.replicas = 3}, {{.rank = 2, .arena = Arena::kState, .tensor = "fc3.weight"}}),
      "momentum.fc3.weight of rank 2 ("));
  EXPECT_TRUE(
      Contains(Compare({.shards = 3},
                       {{.rank = 2, .arena = Arena::kBuffers, .tensor = "norm1.running_mean"}}),
               "norm1.running_mean of rank 2 ("));
}

// Of 2 x 2 x 2 ranks, rank 5 is shard 0 and tower 1 of replica 1.
TEST(SameSlices, EveryTensorIsComparedBetweenTheRanksThatHoldTheSameRows) {
  const GridShape grid{.replicas = 2, .shards = 2, .towers = 2};
  const std::string convolution = Compare(grid, {{.rank = 5, .tensor = "conv1.weight"}});
  EXPECT_TRUE(Contains(convolution, "conv1.weight of rank 5 (")) << convolution;
  EXPECT_TRUE(Contains(convolution, "that of ranks 1 (")) << convolution;
  EXPECT_TRUE(Contains(convolution, "), 3 (")) << convolution;
  EXPECT_TRUE(Contains(convolution, "), 7 (")) << convolution;
  const std::string full = Compare(grid, {{.rank = 5, .tensor = "fc3.weight"}});
  EXPECT_TRUE(Contains(full, "fc3.weight of rank 5 (")) << full;
  EXPECT_TRUE(Contains(full, "that of rank 1 (")) << full;
}

// Then a rank has only the states of its part, but for small parameters.
TEST(SameSlices, ParametersAreComparedIfTheUpdateIsSharded) {
  const auto compare = [](const GridShape& grid, const std::vector<Fault>& faults) {
    return Compare(grid, faults, ShardUpdate::kOn);
  };
  EXPECT_EQ(compare({.replicas = 3}, {}), "");
  EXPECT_EQ(compare({.replicas = 2, .shards = 2, .towers = 2}, {}), "");
  EXPECT_TRUE(Contains(compare({.replicas = 3}, {{.rank = 1, .tensor = "conv2.weight"}}),
                       "conv2.weight of rank 1 ("));
  EXPECT_TRUE(Contains(compare({.replicas = 3}, {{.rank = 2, .tensor = "fc3.bias"}}),
                       "fc3.bias of rank 2 ("));
}

TEST(SameSlices, RowsOfOneRankAreNotCompared) {
  EXPECT_EQ(Compare({.shards = 2}, {{.rank = 1, .tensor = "fc3.weight"}}), "");
  EXPECT_EQ(Compare({.towers = 2}, {{.rank = 1, .tensor = "conv1.weight"}}), "");
}

}  // namespace
}  // namespace convoy
