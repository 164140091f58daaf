// What a loader says about itself, and what it is compared with.
#include "dataloader/measure.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "dataloader/loading/read_ahead.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::FakeDataset;
using testing::SmallOptions;

// --- The report ----------------------------------------------------------------------------------

TEST(LoaderReport, SplitsTheTimeOfAThreadIntoItsStages) {
  const LoaderStatistics part{.images = 1000,
                              .bytes_read = 200'000'000,
                              .read_s = 0.1,
                              .decode_s = 1.0,
                              .resize_s = 0.3,
                              .augment_s = 0.2,
                              .work_s = 1.7,
                              .batches = 10,
                              .ready_batches = 25};
  const LoaderReport report = LoaderReport::Of(part, 2, 4);
  EXPECT_DOUBLE_EQ(report.images_per_s, 250);
  EXPECT_NEAR(report.images_per_busy_thread, 1000 / 1.7, 1e-9);
  EXPECT_DOUBLE_EQ(report.read_mb_per_s, 50);
  EXPECT_DOUBLE_EQ(report.ready_batches, 2.5);
  EXPECT_NEAR(report.read_ms, 0.1, 1e-12);
  EXPECT_NEAR(report.decode_ms, 1.0, 1e-12);
  EXPECT_NEAR(report.other_ms, 0.1, 1e-12);
}

TEST(LoaderReport, SaysWhatLimitsTheLoader) {
  // Threads that wait half of the time for a consumer that never waits.
  EXPECT_EQ(LoaderReport::Of({.images = 100, .work_s = 4}, 2, 4).verdict,
            "the loader keeps up; its threads are idle 50 % of the time");
  // A disk.
  const LoaderReport slow_disk = LoaderReport::Of(
      {.images = 100, .bytes_read = 8'000'000, .read_s = 7, .work_s = 8, .wait_s = 3}, 2, 4);
  EXPECT_NE(slow_disk.verdict.find("input-bound"), std::string::npos) << slow_disk.verdict;
  EXPECT_NE(slow_disk.verdict.find("2.0 MB/s"), std::string::npos);
  EXPECT_NE(slow_disk.verdict.find("75 %"), std::string::npos);
  // The processor: two threads give 100 images in 4 s, a third gives half of that more.
  EXPECT_NE(LoaderReport::Of({.images = 100, .work_s = 8, .wait_s = 3}, 2, 4)
                .verdict.find("with 1 more thread on cores of their own: about 38 images/s"),
            std::string::npos);
  // The consumer cannot take more than that: it is busy for 3 of 4 s.
  EXPECT_NE(LoaderReport::Of({.images = 100, .work_s = 8, .wait_s = 1}, 2, 4)
                .verdict.find("about 33 images/s"),
            std::string::npos);
}

TEST(LoaderReport, NothingAtAllIsNoDivisionByZero) {
  const LoaderReport report = LoaderReport::Of({}, 1, 0);
  EXPECT_EQ(report.images_per_s, 0);
  EXPECT_EQ(report.idle_share, 0);
}

TEST(LoaderStatistics, CountEveryImageAndTheTimeOfEveryStage) {
  const FakeDataset dataset(300);
  LoaderOptions options = SmallOptions(100);
  options.crop.jitter.contrast = 0.5;
  const auto loader = testing::MakeLoader(dataset, options);
  for (int i = 0; i < 3; ++i) loader->Recycle(loader->Next());
  const LoaderStatistics before = loader->statistics();
  EXPECT_EQ(before.batches, 3);
  EXPECT_GE(before.images, 300);
  EXPECT_GT(before.decode_s, 0);
  EXPECT_GT(before.augment_s, 0);
  EXPECT_GE(before.work_s, before.read_s + before.decode_s + before.resize_s + before.augment_s);
  loader->Recycle(loader->Next());
  const LoaderStatistics part = loader->statistics() - before;
  EXPECT_EQ(part.batches, 1);
  EXPECT_LE(part.images, 300);
}

// --- Reading ahead -------------------------------------------------------------------------------

// Notes what is announced and what is read.
class NotingDataset final : public Dataset {
 public:
  explicit NotingDataset(const Dataset& dataset) : dataset_(dataset) {}
  int64_t size() const override { return dataset_.size(); }
  const std::vector<std::string>& classes() const override { return dataset_.classes(); }
  int32_t Label(int64_t sample) const override { return dataset_.Label(sample); }
  std::string Name(int64_t sample) const override { return dataset_.Name(sample); }
  std::string Location(int64_t sample) const override { return dataset_.Location(sample); }
  std::string Describe() const override { return dataset_.Describe(); }
  void Read(int64_t sample, EncodedSample& into) const override {
    dataset_.Read(sample, into);
    const std::lock_guard lock(mutex_);
    const auto announced = announced_.find(sample);
    (announced != announced_.end() ? expected_ : unexpected_).insert(sample);
    if (announced != announced_.end()) announced_.erase(announced);
  }
  void WillRead(int64_t sample) const override {
    const std::lock_guard lock(mutex_);
    announced_.insert(sample);
  }
  size_t announced() const {
    const std::lock_guard lock(mutex_);
    return announced_.size() + expected_.size();
  }
  size_t expected() const {
    const std::lock_guard lock(mutex_);
    return expected_.size();
  }
  size_t unexpected() const {
    const std::lock_guard lock(mutex_);
    return unexpected_.size();
  }

 private:
  const Dataset& dataset_;
  mutable std::mutex mutex_;
  mutable std::multiset<int64_t> announced_, expected_, unexpected_;
};

TEST(ReadAhead, GoesAsFarAsItsBytesAndTheThreadsRateAllow) {
  const auto count = [](ReadAhead ahead, const LoaderStatistics& so_far) {
    int64_t taken = 0;
    while (ahead.Take(7, so_far)) ++taken;
    return taken;
  };
  // Before anything is known: 11 MB of 110,000 bytes an image in batches of 10.
  EXPECT_EQ(count(ReadAhead(11'000'000, 10, 2), {}), 10);
  // Images of 1 MB: 11 of them, in two batches.
  const LoaderStatistics large{.images = 100, .bytes_read = 100'000'000, .work_s = 1};
  EXPECT_EQ(count(ReadAhead(11'000'000, 10, 2), large), 2);
  EXPECT_EQ(count(ReadAhead(11'000'000, 4096, 2), large), 1) << "a batch at least";
  // Small ones, of which two threads decode 2 x 100 / 0.5 s: 800 in two seconds.
  const LoaderStatistics small{.images = 100, .bytes_read = 100'000, .read_s = 0.5, .work_s = 1};
  EXPECT_EQ(count(ReadAhead(11'000'000, 10, 2), small), 80);
  EXPECT_EQ(count(ReadAhead(0, 10, 2), small), 0);
}

TEST(ReadAhead, SamplesAreAnnouncedBeforeTheyAreRead) {
  const FakeDataset fake(400);
  const NotingDataset dataset(fake);
  LoaderOptions options = SmallOptions(10);
  options.queue = 1;
  const auto loader = testing::MakeLoader(dataset, options);
  for (int i = 0; i < 60; ++i) loader->Recycle(loader->Next());  // an epoch and a half
  // Only the first batch is read before its turn to be announced; and every sample is announced
  // once for every reading.
  EXPECT_EQ(dataset.unexpected(), 10u);
  EXPECT_GE(dataset.expected(), 590u);
  options.read_ahead_bytes = 0;
  const NotingDataset other(fake);
  const auto without = testing::MakeLoader(other, options);
  for (int i = 0; i < 10; ++i) without->Recycle(without->Next());
  EXPECT_EQ(other.announced(), 0u);
}

// --- Decoding alone ------------------------------------------------------------------------------

TEST(CopyIntoMemory, RepeatsTheFilesUntilThereIsEnough) {
  const FakeDataset source(10);
  int64_t all = 0;
  EncodedSample sample;
  for (int64_t i = 0; i < 10; ++i) {
    source.Read(i, sample);
    all += static_cast<int64_t>(sample.bytes.size());
  }
  const auto copy = CopyIntoMemory(source, 5 * all / 2);
  EXPECT_GT(copy->size(), 20);
  EXPECT_LT(copy->size(), 30);
  std::multiset<std::string> first_ten;
  for (int64_t i = 0; i < copy->size(); ++i) {
    copy->Read(i, sample);
    const int64_t original = std::stoll(copy->Name(i).substr(4));
    EncodedSample expected;
    source.Read(original, expected);
    EXPECT_EQ(sample.bytes, expected.bytes);
    EXPECT_EQ(copy->Label(i), source.Label(original));
    if (i < 10) first_ten.insert(copy->Name(i));
  }
  EXPECT_EQ(std::set(first_ten.begin(), first_ten.end()).size(), 10u) << "each once, then again";
}

TEST(CopyIntoMemory, RefusesADataSetOfEmptyFiles) {
  FakeDataset source(10);
  source.on_read = [](int64_t, std::vector<uint8_t>& bytes) { bytes.clear(); };
  testing::ExpectError(ErrorOf([&] { CopyIntoMemory(source, 1); }), ExitCode::kData,
                       {"every file is empty"});
}

TEST(TimeDecoding, ReadsEverySampleOnceAndPassesOverBadOnes) {
  FakeDataset dataset(20);
  std::atomic<int64_t> reads{0}, sum{0};
  dataset.on_read = [&](int64_t sample, std::vector<uint8_t>& bytes) {
    ++reads;
    sum += sample;
    if (sample == 4) bytes.resize(30);
  };
  for (const DecodeWork work : {DecodeWork::kEntropy, DecodeWork::kFull}) {
    reads = sum = 0;
    EXPECT_GT(TimeDecoding(dataset, 15, 20, 2, work), 0);
    EXPECT_EQ(reads, 20) << "from sample 15 on, then from 0 again";
    EXPECT_EQ(sum, 190);
  }
}

}  // namespace
}  // namespace convoy
