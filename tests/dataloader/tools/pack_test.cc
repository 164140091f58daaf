// Packing, and checking a data set.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "dataloader/images/image.h"
#include "dataloader/packing.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::FakeDataset;
using testing::TempFolder;

std::shared_ptr<const Dataset> Open(const std::string& path, const TempFolder& folder) {
  return OpenDataset(path, {.index_folder = folder / "index"}, testing::QuietLog());
}

TEST(Pack, CopiesFilesThatNeedNoScalingBitByBit) {
  const TempFolder folder;
  const FakeDataset dataset(70);
  std::vector<int64_t> progress;
  for (const int threads : {1, 3}) {
    PackNestedTar(dataset, {.count = 70, .threads = threads}, folder / "packed.tar",
                  [&](int64_t done) { progress.push_back(done); });
    const auto packed = Open(folder / "packed.tar", folder);
    ASSERT_EQ(packed->size(), 70);
    EXPECT_EQ(packed->classes(), dataset.classes());
    EncodedSample a, b;
    for (int64_t i = 0; i < 70; ++i) {
      EXPECT_EQ(packed->Name(i), dataset.Name(i));
      EXPECT_EQ(packed->Label(i), dataset.Label(i));
      packed->Read(i, a);
      dataset.Read(i, b);
      ASSERT_EQ(a.bytes, b.bytes);
    }
    EXPECT_EQ(testing::HashesOf(*testing::MakeLoader(*packed, testing::SmallOptions(16)), 5),
              testing::HashesOf(*testing::MakeLoader(dataset, testing::SmallOptions(16)), 5));
  }
  EXPECT_EQ(progress.back(), 70);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.begin() + 3));
}

TEST(Pack, TakesEvenlySpacedSamplesOfEveryClass) {
  const TempFolder folder;
  const FakeDataset dataset(90, 9);
  PackNestedTar(dataset, {.count = 18}, folder / "packed.tar", {});
  const auto packed = Open(folder / "packed.tar", folder);
  ASSERT_EQ(packed->size(), 18);
  for (int64_t i = 0; i < 18; ++i) EXPECT_EQ(packed->Name(i), dataset.Name(5 * i));
  ExpectError(ErrorOf([&] { PackNestedTar(dataset, {.count = 3}, folder / "few.tar", {}); }),
              ExitCode::kUsage, {"6 of 9 classes"});
  EXPECT_FALSE(std::filesystem::exists(folder / "few.tar"));
}

TEST(Pack, ScalesToTheShortSide) {
  const TempFolder folder;
  const FakeDataset dataset(12);
  PackNestedTar(dataset, {.count = 12, .short_side = 55, .quality = 100}, folder / "packed.tar",
                {});
  const auto packed = Open(folder / "packed.tar", folder);
  ImageDecoder decoder;
  EncodedSample sample, original;
  for (int64_t i = 0; i < 12; ++i) {
    packed->Read(i, sample);
    dataset.Read(i, original);
    const ImageInfo before = decoder.Open(original).info(), after = decoder.Open(sample).info();
    EXPECT_EQ(std::min(after.width, after.height), 55);
    EXPECT_EQ(std::max(after.width, after.height),
              55 * std::max(before.width, before.height) / std::min(before.width, before.height));
    if (std::min(before.width, before.height) == 55) {
      EXPECT_EQ(sample.bytes, original.bytes);
    }
  }
}

TEST(Pack, MakesJpegsOfPlainPixelsThatLookTheSame) {
  const TempFolder folder;
  std::string pixels, labels;
  for (int i = 0; i < 6; ++i) {
    for (const uint8_t value : testing::TestPixels(28, 28, 1, static_cast<uint32_t>(i))) {
      pixels += static_cast<char>(value);
    }
    labels += static_cast<char>(i % 2);
  }
  folder.Write("train-images",
               std::string("\0\0\x08\x03\0\0\0\6\0\0\0\x1c\0\0\0\x1c", 16) + pixels);
  folder.Write("train-labels", std::string("\0\0\x08\x01\0\0\0\6", 8) + labels);
  const auto dataset = OpenDataset(folder.path() + ":train", {}, testing::QuietLog());
  PackNestedTar(*dataset, {.count = 6, .quality = 100}, folder / "packed.tar", {});
  const auto packed = Open(folder / "packed.tar", folder);
  ASSERT_EQ(packed->size(), 6);
  EXPECT_EQ(packed->Name(0), "0/0.JPEG");
  ImageDecoder decoder;
  EncodedSample sample, plain;
  for (int64_t i = 0; i < 6; ++i) {
    EXPECT_EQ(packed->Label(i), dataset->Label(i)) << "the same identity";
    packed->Read(i, sample);
    dataset->Read(i, plain);
    RowDecoder& image = decoder.Open(sample);
    EXPECT_EQ(image.info().components, 1);
    image.Start({0, 0, 28, 28}, 1);
    std::vector<uint8_t> row(28);
    uint8_t* pointer = row.data();
    for (size_t y = 0; y < 28; ++y) {
      image.ReadRows(&pointer, 1);
      // Quality 100 rounds coefficients to whole numbers.
      for (size_t x = 0; x < 28; ++x) EXPECT_NEAR(row[x], plain.bytes[28 * y + x], 3);
    }
  }
}

TEST(Pack, RefusesWhatItCannotPack) {
  const TempFolder folder;
  FakeDataset dataset(12);
  const auto refused = [&](const Dataset& from, const PackOptions& options) {
    return ErrorOf([&] { PackNestedTar(from, options, folder / "packed.tar", {}); });
  };
  EXPECT_EQ(refused(dataset, {.count = 0}).exit_code(), ExitCode::kUsage);
  EXPECT_EQ(refused(dataset, {.count = 13}).exit_code(), ExitCode::kUsage);
  EXPECT_EQ(refused(dataset, {.count = 12, .quality = 101}).exit_code(), ExitCode::kUsage);
  const auto synthetic = OpenDataset("synthetic:100x2", {}, testing::QuietLog());
  EXPECT_EQ(refused(*synthetic, {.count = 100}).exit_code(), ExitCode::kUsage);
  dataset.on_read = [](int64_t sample, std::vector<uint8_t>& bytes) {
    if (sample == 5) bytes.resize(30);
  };
  ExpectError(refused(dataset, {.count = 12, .short_side = 20}), ExitCode::kData,
              {dataset.Name(5), "fake.tar at byte 5000"});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "whole or not at all";
}

TEST(Verify, CountsKindsAndNamesEveryBadFile) {
  CONVOY_NEED_SHARED("data/odd");
  const auto dataset = OpenImages({testing::SharedPath("data/odd")});
  std::mutex mutex;
  int64_t last = 0;
  const VerifyReport report =
      VerifyDataset(*dataset, 0, dataset->size(), 224, 2, [&](int64_t done) {
        const std::lock_guard lock(mutex);
        last = std::max(last, done);
      });
  EXPECT_EQ(report.images, 30);
  EXPECT_EQ(last, 30);
  EXPECT_EQ(report.png, 1);
  EXPECT_EQ(report.cmyk, 2);
  EXPECT_EQ(report.grey, 1);
  EXPECT_EQ(report.progressive, 1);
  EXPECT_EQ(report.exif_rotated, 1);
  EXPECT_EQ(report.small, report.images - static_cast<int64_t>(report.bad.size()));
  std::vector<std::string> names;
  for (const BadSample& bad : report.bad) {
    names.push_back(std::filesystem::path(bad.name).filename().string());
    EXPECT_FALSE(bad.reason.empty());
    EXPECT_EQ(bad.location, bad.name);
  }
  for (const char* name :
       {"bomb-60000x60000.JPEG", "bomb-progressive-60000x60000.JPEG", "empty.JPEG", "soi-only.JPEG",
        "text.JPEG", "truncated.JPEG", "twelve-bit.JPEG", "zero-height.JPEG"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

TEST(Verify, FindsNothingWrongWithRealPhotographs) {
  CONVOY_NEED_SHARED("data/photos-mini.tar");
  const TempFolder folder;
  const auto dataset = Open(testing::SharedPath("data/photos-mini.tar"), folder);
  const VerifyReport report = VerifyDataset(*dataset, 0, dataset->size(), 224, 2, {});
  EXPECT_EQ(report.images, 106);
  EXPECT_EQ(report.grey, 1);
  EXPECT_EQ(report.cmyk + report.png + report.progressive, 0);
  EXPECT_TRUE(report.bad.empty());
}

}  // namespace
}  // namespace convoy
