// Checkpoints: what is saved is what goes on, at the same cut bit for bit, at another to rounding.
#include "trainer/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "core/host/files.h"
#include "core/random.h"
#include "tests/temporary_folder.h"
#include "tests/trainer/harness.h"
#include "trainer/checkpoint/info.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

NetworkSpec Network() {
  return MakeModel("alexnet-bn", {.classes = 4, .input = 67, .dropout = "0.2"});
}

CheckpointInfo Info() {
  return {.model = "alexnet-bn",
          .options = {.classes = 4, .input = 67, .dropout = "0.2"},
          .classes = {"a", "b", "c", "d"},
          .preprocessing = {.mean = {1, 2, 3}, .standard_deviation = {4, 5, 6}},
          .geometry = "square2012",
          .resize = 76,
          .step = 3,
          .epoch = 1,
          .batch = 2,
          .global_batch = 4,
          .seed = 17,
          .samples = 40,
          .evaluations = {61.5, 60.25},
          .rule = "paper",
          .settings = "lr = 0.01\n",
          .version = "x",
          .ranks = 2,
          .replicas = 1,
          .towers = 2,
          .dtype = "fp32"};
}

// Small convolutions and wide fully connected layers make a quick network of the full structure.
NetworkSpec Small() {
  NetworkSpec network = Network();
  for (LayerSpec& layer : network.layers) {
    if (auto* conv = std::get_if<Convolution>(&layer.layer)) conv->out_channels = 8;
    if (auto* fc = std::get_if<FullyConnected>(&layer.layer); fc && fc->out_features > 4) {
      fc->out_features = 16;
    }
  }
  return network;
}

// One state per weight unless another rule is asked for.
HarnessOptions Options(const GridShape& grid, const UpdateRule& rule = {},
                       ShardUpdate shard_update = ShardUpdate::kOff) {
  return {.network = Small(),
          .grid = grid,
          .batch = 4,
          .optimizer = {.rule = rule, .lr = std::holds_alternative<AdamRule>(rule) ? 1e-3 : 0.01},
          .preprocessing = {.mean = {120, 120, 120}, .standard_deviation = {60, 60, 60}},
          .shard_update = shard_update};
}

double StepOn(Harness& harness, int64_t step) {
  return harness.Step(harness.MakeBatch(
      0, 4 * step, 4,
      [](int64_t position, int64_t i) {
        const RandomKey key{.seed = 3, .position = static_cast<uint64_t>(position)};
        return static_cast<uint8_t>(RandomBlock(key, static_cast<uint32_t>(i))[0]);
      },
      [](int64_t position) { return static_cast<int32_t>(position % 4); }));
}

std::vector<double> StateOf(Harness& harness) {
  std::vector<double> all;
  const auto add = [&](const Tensor& arena) {
    for (const ParameterSlice& slice : MakePlan(Small(), {}, 0).parameters) {
      const std::vector<double> values = harness.Uncut(arena, slice.uncut.name);
      all.insert(all.end(), values.begin(), values.end());
    }
  };
  add(harness.store().parameters());
  for (size_t i = 0; i < harness.store().states().size(); ++i) add(harness.State(i));
  return all;
}

// Makes every element of a slice the number of its row in the uncut tensor.
template <typename Slice>
void WriteRowNumbers(const Slice& slice, const Tensor& tensor) {
  const int64_t row_elements = slice.uncut.shape.DropFirst().count();
  for (int64_t i = 0; i < tensor.count(); ++i) {
    tensor.As<double>()[i] = static_cast<double>(slice.begin + i / row_elements);
  }
}

// Three steps on `first`, a checkpoint, three more on `second`; the state at the end.
struct ShardedBy {
  ShardUpdate first = ShardUpdate::kOff, second = ShardUpdate::kOff;
};

std::vector<double> Interrupted(const GridShape& first, const GridShape& second,
                                const UpdateRule& rule = {}, const ShardedBy& sharded = {}) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("c.safetensors");
  RunAsThreads(first.ranks(), {}, [&](World& world) {
    Harness harness(world, Options(first, rule, sharded.first));
    for (int step = 0; step < 3; ++step) StepOn(harness, step);
    SaveCheckpoint(path, Info(), harness.engine());
  });
  std::vector<double> state;
  std::mutex mutex;
  RunAsThreads(second.ranks(), {}, [&](World& world) {
    Harness harness(world, Options(second, rule, sharded.second));
    // What the checkpoint did not bring would stay wrong.
    std::vector<Tensor> arenas = harness.store().states();
    arenas.push_back(harness.store().parameters());
    arenas.push_back(harness.store().buffers());
    for (const Tensor& arena : arenas) std::fill_n(arena.As<double>(), arena.count(), 42.0);
    LoadCheckpoint(path, harness.engine());
    harness.SetUpdates(3);
    for (int step = 3; step < 6; ++step) StepOn(harness, step);
    const std::vector<double> own = StateOf(harness);
    const std::lock_guard lock(mutex);
    state = own;
  });
  return state;
}

std::vector<double> Uninterrupted(const GridShape& grid, const UpdateRule& rule = {}) {
  std::vector<double> state;
  std::mutex mutex;
  RunAsThreads(grid.ranks(), {}, [&](World& world) {
    Harness harness(world, Options(grid, rule));
    for (int step = 0; step < 6; ++step) StepOn(harness, step);
    const std::vector<double> own = StateOf(harness);
    const std::lock_guard lock(mutex);
    state = own;
  });
  return state;
}

std::string NameOf(const GridShape& grid) {
  return fmt::format("{} replicas, {} shards, {} towers", grid.replicas, grid.shards, grid.towers);
}

// Four classes leave two of the ranks of six parts without a row of the classifier.
TEST(Checkpoint, GoingOnAtTheSameCutIsBitwiseNeverHavingStopped) {
  for (const GridShape& grid :
       {GridShape{}, GridShape{.towers = 2}, GridShape{.replicas = 2},
        GridShape{.replicas = 2, .towers = 2}, GridShape{.shards = 3},
        GridShape{.replicas = 2, .shards = 2}, GridShape{.shards = 3, .towers = 2}}) {
    EXPECT_EQ(Interrupted(grid, grid), Uninterrupted(grid)) << NameOf(grid);
    EXPECT_EQ(Interrupted(grid, grid, AdamRule{}), Uninterrupted(grid, AdamRule{}))
        << NameOf(grid) << ", two states";
  }
}

// A file holds the whole states, so that a sharded update goes on as another, and the other way.
TEST(Checkpoint, GoingOnWithAShardedUpdateIsBitwiseNeverHavingStopped) {
  constexpr ShardUpdate kOn = ShardUpdate::kOn, kOff = ShardUpdate::kOff;
  for (const GridShape& grid : {GridShape{.replicas = 3}, GridShape{.replicas = 2, .shards = 2},
                                GridShape{.replicas = 2, .shards = 2, .towers = 2}}) {
    const std::vector<double> expected = Uninterrupted(grid, AdamRule{});
    for (const ShardedBy& sharded : {ShardedBy{kOn, kOn}, {kOn, kOff}, {kOff, kOn}}) {
      EXPECT_EQ(Interrupted(grid, grid, AdamRule{}, sharded), expected) << NameOf(grid);
    }
  }
}

// The bound is that of the cut equality tests.
TEST(Checkpoint, GoingOnAtAnotherCutIsTheSameRun) {
  const std::vector<double> expected = Uninterrupted({});
  const auto expect_same = [&](const GridShape& first, const GridShape& second) {
    EXPECT_LT(LargestDifference(Interrupted(first, second), expected), 1e-10)
        << NameOf(first) << ", then " << NameOf(second);
  };
  expect_same({.towers = 2}, {.replicas = 2});
  expect_same({.replicas = 2}, {});
  expect_same({}, {.replicas = 2, .towers = 2});
  expect_same({.shards = 3}, {});
  expect_same({}, {.shards = 4});
  expect_same({.shards = 2}, {.shards = 3});
  expect_same({.shards = 4}, {.towers = 2});
  expect_same({.towers = 2}, {.replicas = 2, .shards = 2});
  expect_same({.shards = 3, .towers = 2}, {.replicas = 3, .shards = 2});
  const std::vector<double> adam = Uninterrupted({}, AdamRule{});
  EXPECT_LT(LargestDifference(Interrupted({.shards = 3}, {.towers = 2}, AdamRule{}), adam), 1e-10);
  EXPECT_LT(LargestDifference(Interrupted({.replicas = 2}, {.shards = 2}, AdamRule{}), adam),
            1e-10);
}

// Saved under a cut, a file holds the uncut network: the same bytes as saved by one rank.
TEST(Checkpoint, TheFileDoesNotDependOnTheCut) {
  const TemporaryFolder folder;
  for (const UpdateRule& rule : {UpdateRule{}, UpdateRule(AdamRule{})}) {
    // States that are all zero would look alike in any order.
    const auto save = [&](const GridShape& grid) {
      RunAsThreads(grid.ranks(), {}, [&](World& world) {
        Harness harness(world, Options(grid, rule));
        for (const ParameterSlice& slice : harness.plan().parameters) {
          for (const Tensor& state : harness.store().states()) {
            WriteRowNumbers(slice,
                            harness.store().parameter_layout().View(state, slice.uncut.name));
          }
        }
        for (const BufferSlice& slice : harness.plan().buffers) {
          WriteRowNumbers(slice, harness.store().buffer_layout().View(harness.store().buffers(),
                                                                      slice.uncut.name));
        }
        SaveCheckpoint(folder.Path("file"), Info(), harness.engine());
      });
      return ReadText(folder.Path("file"), ExitCode::kDisk);
    };
    const std::string one = save({});
    for (const GridShape& grid :
         {GridShape{.towers = 2}, GridShape{.replicas = 2, .towers = 2}, GridShape{.shards = 3},
          GridShape{.replicas = 2, .shards = 4}, GridShape{.shards = 3, .towers = 2}}) {
      EXPECT_TRUE(save(grid) == one) << NameOf(grid);
    }
  }
}

TEST(Checkpoint, InfoSurvivesTheFile) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("c.safetensors");
  RunAsThreads(1, {}, [&](World& world) {
    Harness harness(world, Options({}));
    SaveCheckpoint(path, Info(), harness.engine());
  });
  const CheckpointInfo info = ReadCheckpointInfo(path), expected = Info();
  EXPECT_EQ(info.model, expected.model);
  EXPECT_EQ(info.options.classes, expected.options.classes);
  EXPECT_EQ(info.options.dropout, expected.options.dropout);
  EXPECT_EQ(info.options.norm, std::nullopt);
  EXPECT_EQ(info.classes, expected.classes);
  EXPECT_EQ(info.preprocessing.mean, expected.preprocessing.mean);
  EXPECT_EQ(info.preprocessing.standard_deviation, expected.preprocessing.standard_deviation);
  EXPECT_EQ(info.step, 3);
  EXPECT_EQ(info.epoch, 1);
  EXPECT_EQ(info.batch, 2);
  EXPECT_EQ(info.seed, 17u);
  EXPECT_EQ(info.evaluations, expected.evaluations);
  EXPECT_EQ(info.settings, expected.settings);
  EXPECT_TRUE(DifferencesThatForbidResume(info, expected).empty());
}

TEST(Checkpoint, DifferencesAreNamedFieldByField) {
  CheckpointInfo other = Info();
  other.model = "alexnet2012";
  other.options.classes = 5;
  other.options.norm = "none";
  other.options.init = "he";
  other.seed = 18;
  const auto differences = DifferencesThatForbidResume(Info(), other);
  ASSERT_EQ(differences.size(), 5u);
  EXPECT_EQ(differences[0], "model: alexnet-bn in the checkpoint, alexnet2012 in this run");
  EXPECT_EQ(differences[1], "classes: 4 in the checkpoint, 5 in this run");
}

TEST(Checkpoint, OneOfAnotherNetworkIsRefusedOnEveryRank) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("c.safetensors");
  RunAsThreads(1, {}, [&](World& world) {
    Harness harness(world, Options({}));
    SaveCheckpoint(path, Info(), harness.engine());
  });
  HarnessOptions wider = Options({.towers = 2});
  std::get<Convolution>(wider.network.layers[0].layer).out_channels = 16;
  std::atomic<int> refused{0};
  RunAsThreads(2, {}, [&](World& world) {
    Harness harness(world, wider);
    try {
      LoadCheckpoint(path, harness.engine());
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kCheckpoint);
      EXPECT_NE(error.message().find("conv1.weight is [8,11,11,3], expected [16,11,11,3]"),
                std::string::npos)
          << error.message();
      ++refused;
    }
  });
  EXPECT_EQ(refused, 2);
}

class CheckpointFolderTest : public ::testing::Test {
 protected:
  void Write(int64_t step) {
    CheckpointInfo info = Info();
    info.step = step;
    SafetensorsWriter writer(checkpoints_.PathOf(step), {{"a", DType::kInt64, Shape{1}}},
                             MetadataOf(info));
    writer.Write(&step, sizeof(step));
    writer.Commit();
  }
  void Damage(int64_t step) {
    std::fstream file(checkpoints_.PathOf(step), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('x');
  }

  TemporaryFolder folder_;
  Log log_{LogLevel::kSilent};
  CheckpointFolder checkpoints_{folder_.path()};
};

TEST_F(CheckpointFolderTest, TheNewestValidOneIsTaken) {
  EXPECT_EQ(checkpoints_.NewestValid(log_), std::nullopt);
  for (int64_t step : {9, 10, 100}) Write(step);
  EXPECT_EQ(checkpoints_.NewestValid(log_), checkpoints_.PathOf(100));
  Damage(100);
  EXPECT_EQ(checkpoints_.NewestValid(log_), checkpoints_.PathOf(10));
  Damage(10);
  Damage(9);
  try {
    checkpoints_.NewestValid(log_);
    FAIL() << "took a damaged one";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kCheckpoint);
  }
}

TEST_F(CheckpointFolderTest, OneThatCannotBeReadIsNotTakenForAnEmptyOne) {
  Log log(LogLevel::kSilent);
  EXPECT_EQ(CheckpointFolder(folder_.Path("missing")).NewestValid(log), std::nullopt);
  std::ofstream(folder_.Path("file")) << "no folder";
  const CheckpointFolder unreadable(folder_.Path("file"));
  try {
    unreadable.NewestValid(log);
    FAIL() << "taken for empty";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDisk);
  }
  unreadable.Prune(1);  // left to the next save
}

TEST_F(CheckpointFolderTest, PruneKeepsTheNewestTheBestAndWhatIsNotOurs) {
  for (int64_t step : {1, 2, 3, 4}) Write(step);
  checkpoints_.MarkBest(2);
  std::ofstream(folder_.Path("notes.txt")) << "mine";
  std::ofstream(folder_.Path("step-x.safetensors")) << "mine";
  checkpoints_.Prune(2);
  EXPECT_FALSE(std::filesystem::exists(checkpoints_.PathOf(2)));
  EXPECT_TRUE(std::filesystem::exists(checkpoints_.PathOf(3)));
  EXPECT_TRUE(std::filesystem::exists(checkpoints_.PathOf(4)));
  SafetensorsReader(checkpoints_.best_path()).VerifyChecksums();
  EXPECT_TRUE(std::filesystem::exists(folder_.Path("notes.txt")));
  EXPECT_TRUE(std::filesystem::exists(folder_.Path("step-x.safetensors")));
  checkpoints_.MarkBest(4);
}

// A copy under another name is what it holds, and belongs to whoever made it.
TEST_F(CheckpointFolderTest, TheStepInAFileCountsNotItsName) {
  for (int64_t step : {5, 10}) Write(step);
  std::filesystem::copy_file(checkpoints_.PathOf(5), checkpoints_.PathOf(99));
  std::filesystem::copy_file(checkpoints_.PathOf(10), checkpoints_.PathOf(1));
  std::filesystem::copy_file(checkpoints_.PathOf(5), folder_.Path("backup.safetensors"));
  EXPECT_EQ(checkpoints_.NewestValid(log_), checkpoints_.PathOf(10));
  checkpoints_.Prune(1);
  EXPECT_FALSE(std::filesystem::exists(checkpoints_.PathOf(5)));
  for (int64_t step : {1, 10, 99}) EXPECT_TRUE(std::filesystem::exists(checkpoints_.PathOf(step)));
  EXPECT_TRUE(std::filesystem::exists(folder_.Path("backup.safetensors")));
  std::filesystem::remove(checkpoints_.PathOf(10));
  EXPECT_EQ(checkpoints_.NewestValid(log_), checkpoints_.PathOf(1)) << "it holds step 10";
}

TEST_F(CheckpointFolderTest, GoingBackSetsAsideWhatIsLaterAndOverwritesNothing) {
  for (int64_t step : {5, 10, 20}) Write(step);
  checkpoints_.MarkBest(20);
  EXPECT_FALSE(checkpoints_.SetAsideAfter(20, log_));
  EXPECT_TRUE(checkpoints_.SetAsideAfter(10, log_));
  EXPECT_EQ(checkpoints_.NewestValid(log_), checkpoints_.PathOf(10));
  EXPECT_FALSE(std::filesystem::exists(checkpoints_.best_path()));
  Write(20);
  EXPECT_TRUE(checkpoints_.SetAsideAfter(5, log_));
  for (const char* suffix : {".abandoned", ".abandoned-2"}) {
    EXPECT_TRUE(std::filesystem::exists(checkpoints_.PathOf(20) + suffix)) << suffix;
  }
  EXPECT_TRUE(std::filesystem::exists(checkpoints_.best_path() + ".abandoned"));
}

TEST_F(CheckpointFolderTest, WhatAnInterruptedSaveLeftIsRemoved) {
  Write(1);
  std::ofstream(checkpoints_.PathOf(2) + ".partial") << "torn";
  checkpoints_.Prepare(log_);
  EXPECT_FALSE(std::filesystem::exists(checkpoints_.PathOf(2) + ".partial"));
  EXPECT_EQ(checkpoints_.NewestValid(log_), checkpoints_.PathOf(1));
}

}  // namespace
}  // namespace convoy
