#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "dataloader/loader.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::FakeDataset;
using testing::MakeLoader;
using testing::SmallOptions;

// A data set of which some samples are cut in half.
class BadSampleTest : public ::testing::Test {
 protected:
  BadSampleTest() {
    dataset_.on_read = [this](int64_t sample, std::vector<uint8_t>& bytes) {
      if (bad_.contains(sample)) bytes.resize(bytes.size() / 2);
    };
  }
  FakeDataset dataset_{60};
  std::set<int64_t> bad_ = {7, 20, 21, 59};
};

TEST_F(BadSampleTest, IsReplacedAndEnteredIntoTheLedger) {
  LoaderOptions options = SmallOptions(16);
  const auto loader = MakeLoader(dataset_, options);
  std::vector<int64_t> substitutes;
  for (int i = 0; i < 4; ++i) {
    const auto batch = loader->Next();
    for (const SampleInfo& info : batch->samples) {
      if (info.position < 0) continue;
      EXPECT_FALSE(bad_.contains(info.sample));
      EXPECT_EQ(info.label, dataset_.Label(info.sample)) << "the substitute's own label";
      EXPECT_EQ(info.weight, 1);
      substitutes.push_back(info.sample);
    }
  }
  EXPECT_EQ(substitutes.size(), 60u);
  const std::vector<BadSample> ledger = loader->TakeBadSamples();
  EXPECT_TRUE(loader->TakeBadSamples().empty());
  EXPECT_EQ(loader->statistics().bad_samples, static_cast<int64_t>(ledger.size()));
  std::set<std::string> names;
  for (const BadSample& bad : ledger) {
    names.insert(bad.name);
    EXPECT_EQ(bad.epoch, 0);
    EXPECT_NE(bad.location.find("fake.tar at byte"), std::string::npos);
    EXPECT_NE(bad.reason.find("premature end"), std::string::npos);
  }
  for (const int64_t sample : bad_) EXPECT_TRUE(names.contains(dataset_.Name(sample)));
  EXPECT_TRUE(std::is_sorted(ledger.begin(), ledger.end(),
                             [](const auto& a, const auto& b) { return a.position < b.position; }));
}

TEST_F(BadSampleTest, HasTheSameSubstituteOnEveryRankThreadAndRestart) {
  LoaderOptions options = SmallOptions(16);
  const std::vector<uint64_t> expected = testing::HashesOf(*MakeLoader(dataset_, options), 8);
  options.threads = 8;
  EXPECT_EQ(testing::HashesOf(*MakeLoader(dataset_, options), 8), expected);
  const auto restarted = MakeLoader(dataset_, options);
  restarted->Seek(1, 2);
  EXPECT_EQ(testing::HashesOf(*restarted, 1)[0], expected[6]);
  const auto whole = MakeLoader(dataset_, options);
  for (int rank = 0; rank < 2; ++rank) {
    options.share = {.replica = rank, .replicas = 2};
    const auto part = MakeLoader(dataset_, options);
    whole->Seek(0, 0);
    for (int i = 0; i < 4; ++i) {
      const auto all = whole->Next(), own = part->Next();
      for (const SampleInfo& info : own->samples) {
        if (info.position < 0) continue;
        EXPECT_EQ(info.sample, all->samples[static_cast<size_t>(info.position % 16)].sample);
      }
    }
  }
}

TEST_F(BadSampleTest, CanBeDropped) {
  LoaderOptions options = SmallOptions(16);
  options.bad_samples = BadSamplePolicy::kDrop;
  options.order = Order::kSequential;
  const auto loader = MakeLoader(dataset_, options);
  for (int i = 0; i < 4; ++i) {
    const auto batch = loader->Next();
    for (size_t row = 0; row < batch->samples.size(); ++row) {
      const SampleInfo& info = batch->samples[row];
      if (info.position < 0) continue;
      EXPECT_EQ(info.sample, info.position);
      EXPECT_EQ(info.weight, bad_.contains(info.sample) ? 0 : 1);
      const auto* pixels = static_cast<const uint8_t*>(batch->pixels.data()) + row * 28 * 28 * 3;
      const bool black =
          std::all_of(pixels, pixels + 28 * 28 * 3, [](uint8_t v) { return v == 0; });
      EXPECT_EQ(black, bad_.contains(info.sample));
    }
  }
}

TEST_F(BadSampleTest, CanEndTheRun) {
  LoaderOptions options = SmallOptions(16);
  options.bad_samples = BadSamplePolicy::kFail;
  options.order = Order::kSequential;
  options.threads = 2;
  const auto loader = MakeLoader(dataset_, options);
  for (int i = 0; i < 2; ++i) {
    ExpectError(ErrorOf([&] { loader->Next(); }), ExitCode::kData,
                {dataset_.Name(7), "fake.tar at byte 7000", "premature end"});
  }
  loader->Seek(0, 2);  // 32 .. 47: all good
  EXPECT_EQ(loader->Next()->index, 2);
}

TEST_F(BadSampleTest, TooManyOfThemEndTheRun) {
  LoaderOptions options = SmallOptions(16);
  options.bad_sample_limit = 4;
  {
    const auto loader = MakeLoader(dataset_, options);
    for (int i = 0; i < 3; ++i) loader->Next();
  }
  bad_ = {1, 2, 3, 7, 20, 21, 59};
  const auto loader = MakeLoader(dataset_, options);
  const Error error = ErrorOf([&] {
    for (int i = 0; i < 4; ++i) loader->Next();
  });
  ExpectError(error, ExitCode::kData, {"bad samples in epoch 0, at most 4", "fake.tar"});
  EXPECT_EQ(ErrorOf([&] { loader->Next(); }).message(), error.message());
}

TEST_F(BadSampleTest, TheLimitIsPerEpochAndEightByDefault) {
  for (int64_t sample = 0; sample < 5; ++sample) bad_.insert(sample);
  bad_.erase(59);  // eight in all
  LoaderOptions options = SmallOptions(60);
  options.bad_samples = BadSamplePolicy::kDrop;
  {
    const auto loader = MakeLoader(dataset_, options);
    for (int epoch = 0; epoch < 5; ++epoch) loader->Next();
  }
  bad_.insert(59);
  const auto another = MakeLoader(dataset_, options);
  ExpectError(ErrorOf([&] { another->Next(); }), ExitCode::kData, {"9 bad samples", "at most 8"});
}

TEST_F(BadSampleTest, ADataSetOfNothingElseIsGivenUp) {
  for (int64_t sample = 0; sample < 60; ++sample) bad_.insert(sample);
  LoaderOptions options = SmallOptions(4);
  options.bad_sample_limit = 1000;
  ExpectError(ErrorOf([&] { MakeLoader(dataset_, options)->Next(); }), ExitCode::kData,
              {"in a row are bad"});
}

TEST_F(BadSampleTest, NeverStandsInForItselfOrForOneThatItReplaced) {
  for (const int64_t size : {2, 3, 9}) {
    FakeDataset dataset(size, 1);
    dataset.on_read = [&](int64_t sample, std::vector<uint8_t>& bytes) {
      if (sample != size - 1) bytes.clear();
    };
    const auto loader = MakeLoader(dataset, SmallOptions(size));
    for (int epoch = 0; epoch < 20; ++epoch) {
      const auto batch = loader->Next();
      for (const SampleInfo& info : batch->samples) EXPECT_EQ(info.sample, size - 1);
    }
    for (const BadSample& bad : loader->TakeBadSamples()) EXPECT_NE(bad.replaced_by, bad.name);
  }
}

TEST_F(BadSampleTest, AnImageIsCountedOnceAnEpochHoweverManySubstitutesAreBad) {
  FakeDataset dataset(9, 1);
  dataset.on_read = [](int64_t sample, std::vector<uint8_t>& bytes) {
    if (sample > 0) bytes.clear();
  };
  const auto loader = MakeLoader(dataset, SmallOptions(9));
  for (int epoch = 0; epoch < 3; ++epoch) loader->Next();  // 8 of 9, the default limit
  EXPECT_GT(loader->TakeBadSamples().size(), 24u);
}

TEST_F(BadSampleTest, NoLimitPermitsASetWithoutAnyGoodImage) {
  for (const int64_t size : {1, 2, 5}) {
    FakeDataset dataset(size, 1);
    dataset.on_read = [](int64_t, std::vector<uint8_t>& bytes) { bytes.clear(); };
    LoaderOptions options = SmallOptions(1);
    options.bad_sample_limit = 1000;
    ExpectError(ErrorOf([&] { MakeLoader(dataset, options)->Next(); }), ExitCode::kData,
                {dataset.Name(0).substr(0, 5)});
    options.bad_samples = BadSamplePolicy::kDrop;
    const auto loader = MakeLoader(dataset, options);
    for (int64_t i = 1; i < size; ++i) loader->Next();
    ExpectError(ErrorOf([&] { loader->Next(); }), ExitCode::kData,
                {fmt::format("{} bad samples", size), fmt::format("at most {}", size - 1)});
    // A caller who names every sample needs no good one.
    options.bad_sample_limit = kNoBadSampleLimit;
    const auto any = MakeLoader(dataset, options);
    for (int64_t i = 0; i < size; ++i) any->Next();
    EXPECT_EQ(std::ssize(any->TakeBadSamples()), size);
  }
}

TEST(BadSampleLimit, IsAtLeastEightAndNeverAllImages) {
  EXPECT_EQ(BadSampleLimit(std::nullopt, 1281167), 1281);
  EXPECT_EQ(BadSampleLimit(std::nullopt, 100), 8);
  EXPECT_EQ(BadSampleLimit(std::nullopt, 8), 7);
  EXPECT_EQ(BadSampleLimit(std::nullopt, 1), 0);
  EXPECT_EQ(BadSampleLimit(50, 100), 50);
  EXPECT_EQ(BadSampleLimit(100, 100), 99);
  EXPECT_EQ(BadSampleLimit(0, 100), 0);
}

TEST_F(BadSampleTest, AReadErrorIsOneToo) {
  dataset_.on_read = [](int64_t sample, std::vector<uint8_t>&) {
    if (sample == 5) throw Error(ExitCode::kDisk, "input/output error");
  };
  const auto loader = MakeLoader(dataset_, SmallOptions(60));
  loader->Next();
  const std::vector<BadSample> ledger = loader->TakeBadSamples();
  ASSERT_GE(ledger.size(), 1u);
  EXPECT_EQ(ledger[0].reason, "input/output error");
}

TEST_F(BadSampleTest, ADefectIsNotABadSample) {
  dataset_.on_read = [](int64_t sample, std::vector<uint8_t>&) {
    if (sample == 5) throw Error(ExitCode::kDefect, "broken invariant");
  };
  ExpectError(ErrorOf([&] { MakeLoader(dataset_, SmallOptions(60))->Next(); }), ExitCode::kDefect,
              {"broken invariant"});
}

}  // namespace
}  // namespace convoy
