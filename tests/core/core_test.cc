#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <thread>

#include "core/device/memory.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/host/files.h"
#include "core/host/thread_pool.h"
#include "core/tensor/arena.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"
#include "core/tensor/tensor.h"
#include "core/text.h"

namespace convoy {
namespace {

// A folder of this test's own, removed afterwards.
class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("convoy-core-test-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST(Error, WhatJoinsMessageAndHint) {
  const Error error(ExitCode::kData, "no file x", "give one");
  EXPECT_STREQ(error.what(), "no file x. Hint: give one");
  EXPECT_EQ(error.exit_code(), ExitCode::kData);
  EXPECT_STREQ(Error(ExitCode::kData, "no file x").what(), "no file x");
}

TEST(Check, EvaluatesInEveryBuildAndNamesFileAndValues) {
  int evaluated = 0;
  CONVOY_CHECK(++evaluated == 1);
  EXPECT_EQ(evaluated, 1);
  try {
    CONVOY_CHECK(evaluated == 2, "evaluated is {}", evaluated);
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDefect);
    EXPECT_NE(error.message().find("core/core_test.cc:"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("evaluated is 1"), std::string::npos) << error.message();
  }
}

TEST(Shape, CountsComparesAndPrints) {
  const Shape shape{128, 27, 27, 48};
  EXPECT_EQ(shape.count(), 128 * 27 * 27 * 48);
  EXPECT_EQ(shape.ToString(), "[128,27,27,48]");
  EXPECT_EQ(shape.DropFirst(), (Shape{27, 27, 48}));
  EXPECT_EQ(shape.DropFirst().Prepend(4), (Shape{4, 27, 27, 48}));
  EXPECT_EQ(shape.With(3, 96).back(), 96);
  EXPECT_EQ(Shape{}.count(), 1);
  EXPECT_EQ((Shape{3, 0}).count(), 0);
  EXPECT_THROW(shape[4], Error);
  EXPECT_THROW((Shape{-1}), Error);
}

TEST(BFloat16, RoundsToNearestEvenAndKeepsSpecials) {
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f)), 1.0f);
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f + 0x1p-8f)), 1.0f);                // tie, to even
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);  // tie, to even
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f + 0x1.1p-8f)), 1.0f + 0x1p-7f);
  EXPECT_EQ(static_cast<float>(BFloat16(std::numeric_limits<float>::max())),
            std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::nanf("")))));
  EXPECT_EQ(static_cast<float>(BFloat16(-0.0f)), 0.0f);
}

TEST(Buffer, IsAlignedZeroedAndMovable) {
  Buffer buffer = AllocateHost(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kAlignmentBytes, 0u);
  const auto* bytes = static_cast<const uint8_t*>(buffer.data());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(bytes[i], 0);
  const Buffer moved = std::move(buffer);
  EXPECT_EQ(moved.data(), bytes);
  EXPECT_FALSE(buffer);  // NOLINT(bugprone-use-after-move): moved-from is documented as empty
  EXPECT_TRUE(AllocateHost(0));
}

TEST(Tensor, ViewsRowsRangesAndRefusesTheWrongType) {
  const Buffer buffer = AllocateHost(24 * 4);
  const Tensor tensor = ViewOf(buffer, DType::kFloat32, Shape{2, 3, 4});
  float* values = tensor.As<float>();
  for (int i = 0; i < 24; ++i) values[i] = static_cast<float>(i);
  EXPECT_EQ(tensor.Rows(1, 1).As<float>()[0], 12.0f);
  EXPECT_EQ(tensor.Range(5, 2).As<float>()[1], 6.0f);
  EXPECT_EQ(tensor.Reshape(Shape{6, 4}).shape, (Shape{6, 4}));
  EXPECT_THROW(tensor.As<double>(), Error);
  EXPECT_THROW(tensor.Rows(1, 2), Error);
  EXPECT_THROW(ViewOf(buffer, DType::kFloat64, Shape{24}), Error);
}

TEST(ArenaLayout, AlignsEveryTensorAndFindsItByName) {
  ArenaLayout layout;
  layout.Add("a.weight", Shape{3, 5});
  layout.Add("a.bias", Shape{3});
  EXPECT_EQ(layout.Find("a.bias").offset, 32);
  EXPECT_EQ(layout.count(), 64);
  EXPECT_THROW(layout.Add("a.bias", Shape{1}), Error);
  EXPECT_THROW(layout.Find("b"), Error);
}

TEST(Hash, PiecesGiveTheHashOfTheWhole) {
  const std::string text = "the quick brown fox";
  Hasher hasher;
  hasher.Add(text.data(), 4);
  hasher.Add(text.data() + 4, text.size() - 4);
  EXPECT_EQ(hasher.Digest(), Hash64(text));
  EXPECT_NE(Hash64("a"), Hash64("b"));
}

TEST(Text, NearestNameFindsTyposOnly) {
  EXPECT_EQ(NearestName("batchsize", {"batch-size", "seed"}), "batch-size");
  EXPECT_EQ(NearestName("trian", {"eval", "train"}), "train");
  EXPECT_EQ(NearestName("xyzzy", {"batch-size", "seed"}), std::nullopt);
}

TEST(Text, FormatsForPeople) {
  EXPECT_EQ(FormatCount(1281167), "1,281,167");
  EXPECT_EQ(FormatCount(-1234), "-1,234");
  EXPECT_EQ(FormatCount(12), "12");
  EXPECT_EQ(FormatBytes(1.24e9), "1.24 GB");
  EXPECT_EQ(FormatBytes(12), "12 B");
  EXPECT_EQ(FormatDuration(4.21), "4.2 s");
  EXPECT_EQ(FormatDuration(200), "3 min 20 s");
  EXPECT_EQ(FormatDuration(7500), "2 h 05 min");
}

TEST(Text, ParsesWholeNumbersOnly) {
  EXPECT_EQ(ParseInteger("12"), 12);
  EXPECT_EQ(ParseInteger("12x"), std::nullopt);
  EXPECT_EQ(ParseInteger(""), std::nullopt);
  EXPECT_EQ(ParseNumber("1e-3"), 1e-3);
  EXPECT_EQ(Trim("  a b\n"), "a b");
  EXPECT_EQ(Split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
}

TEST(ThreadPool, RunsEveryTaskAndRethrowsTheFirstFailure) {
  ThreadPool pool(3);
  std::atomic<int> sum{0};
  for (int i = 1; i <= 100; ++i) pool.Submit([&sum, i] { sum += i; });
  pool.Wait();
  EXPECT_EQ(sum, 5050);
  pool.Submit([] { throw std::runtime_error("broken"); });
  EXPECT_THROW(pool.Wait(), std::runtime_error);
  pool.Submit([&sum] { ++sum; });
  pool.Wait();
  EXPECT_EQ(sum, 5051);
}

TEST_F(FilesTest, ReadAtSaysWhatIsMissing) {
  WriteText(Path("f"), "hello");
  const File file = File::OpenForReading(Path("f"), ExitCode::kData);
  char text[5];
  file.ReadAt(1, text, 4);
  EXPECT_EQ(std::string_view(text, 4), "ello");
  try {
    file.ReadAt(2, text, 5);
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDisk);
    EXPECT_NE(error.message().find("at byte 2: expected 5 bytes, found 3"), std::string::npos)
        << error.message();
  }
  EXPECT_THROW(File::OpenForReading(Path("none"), ExitCode::kData), Error);
  EXPECT_THROW(File::OpenForReading(folder_.string(), ExitCode::kData), Error);
}

TEST_F(FilesTest, SharedTextIsAlwaysThatOfOneWriter) {
  const std::vector<std::string> texts = {std::string(100'000, 'a'), std::string(50'000, 'b'),
                                          std::string(1, 'c')};
  WriteSharedText(Path("f"), texts[0]);
  std::vector<std::thread> writers;
  for (const std::string& text : texts) {
    writers.emplace_back([&] {
      for (int i = 0; i < 10; ++i) WriteSharedText(Path("f"), text);
    });
  }
  for (int i = 0; i < 100; ++i) {
    const std::string found = ReadText(Path("f"), ExitCode::kDisk);
    EXPECT_TRUE(std::find(texts.begin(), texts.end(), found) != texts.end()) << found.size();
  }
  for (std::thread& writer : writers) writer.join();
  const std::filesystem::directory_iterator entries(Path("."));
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "temporary files are left";
}

TEST_F(FilesTest, AtomicFileAppearsWholeOrNotAtAll) {
  {
    AtomicFile file(Path("f"));
    file.Write("abc", 3);
    file.WriteAt(0, "X", 1);
    EXPECT_FALSE(std::filesystem::exists(Path("f")));
    file.Commit();
  }
  EXPECT_EQ(ReadText(Path("f"), ExitCode::kDisk), "Xbc");
  {
    AtomicFile file(Path("f"));
    file.Write("lost", 4);
  }
  EXPECT_EQ(ReadText(Path("f"), ExitCode::kDisk), "Xbc");
  EXPECT_FALSE(std::filesystem::exists(Path("f.partial")));
}

// A limit on the size of files stands in for a full disk.
TEST_F(FilesTest, AWriteThatFailsIsADiskErrorAndTheOldFileStays) {
  WriteText(Path("f"), "old");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 10, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  ExitCode code = ExitCode::kDone;
  try {
    WriteText(Path("f"), "more than ten bytes");
  } catch (const Error& error) {
    code = error.exit_code();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(code, ExitCode::kDisk);
  EXPECT_EQ(ReadText(Path("f"), ExitCode::kDisk), "old");
  EXPECT_FALSE(std::filesystem::exists(Path("f.partial")));
}

TEST_F(FilesTest, AFolderThatCannotBeMadeIsADiskError) {
  try {
    MakeFolder("/proc/none/x");
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDisk);
  }
  EXPECT_GT(FreeBytes(folder_.string()), 0);
}

// Nobody writes into the pipe: opening it must not wait.
TEST_F(FilesTest, WhatIsNoFileIsRefusedAtOnceAndNamed) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  const auto refusal = [](const std::string& path) {
    try {
      ReadText(path, ExitCode::kUsage, 100);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_NE(refusal(Path("pipe")).find("is a pipe"), std::string::npos);
  EXPECT_NE(refusal(folder_.string()).find("is a folder"), std::string::npos);
  EXPECT_NE(refusal("/dev/zero").find("is a device"), std::string::npos);
  WriteText(Path("large"), std::string(101, 'x'));
  EXPECT_NE(refusal(Path("large")).find("at most 100 bytes, found 101"), std::string::npos);
}

TEST_F(FilesTest, AnAppendThatFailsLeavesNoPiece) {
  AppendedFile file(Path("f"));
  file.Append("one\n");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 6, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(file.Append("two\n"), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  file.Append("three\n");
  EXPECT_EQ(ReadText(Path("f"), ExitCode::kDisk), "one\nthree\n");
}

TEST_F(FilesTest, AFolderIsLockedOnce) {
  const FolderLock lock(folder_.string());
  try {
    const FolderLock second(folder_.string());
    FAIL() << "locked twice";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
  }
}

}  // namespace
}  // namespace convoy
