// Packed shards: written by several processes, continued, read like their source, compared with it.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "dataloader/dataset_view.h"
#include "dataloader/images/image.h"
#include "dataloader/images/jpeg_writer.h"
#include "dataloader/packing.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using testing::ErrorOf;
using testing::ExpectError;
using testing::FakeDataset;
using testing::HashesOf;
using testing::SmallOptions;
using testing::TempFolder;

ShardOptions OptionsFor(const Dataset& dataset, int64_t images_per_shard) {
  return {.images = {.count = dataset.size()}, .images_per_shard = images_per_shard};
}

void Prepare(const Dataset& dataset, const ShardOptions& options, const std::string& folder) {
  PrepareShards(dataset, DescribeShards(dataset, options), folder);
}

ShardReport Pack(const Dataset& dataset, const ShardOptions& options, const std::string& folder) {
  Prepare(dataset, options, folder);
  return PackShards(dataset, options, folder, {});
}

std::shared_ptr<const Dataset> Open(const std::string& path) {
  return OpenDataset(path, {}, testing::QuietLog());
}

std::vector<uint64_t> Stream(const Dataset& dataset) {
  return HashesOf(*testing::MakeLoader(dataset, SmallOptions(8)), 9);
}

TEST(Shards, GiveTheStreamOfTheirSourceWhereNothingIsScaled) {
  const FakeDataset source(50);
  for (const bool lossless : {false, true}) {
    const TempFolder folder;
    ShardOptions options = OptionsFor(source, 16);
    options.images.lossless = lossless;
    options.images.threads = 3;
    const ShardReport report = Pack(source, options, folder / "shards");
    EXPECT_EQ(report.shards, 4);
    EXPECT_EQ(report.images, 50);
    EXPECT_TRUE(report.bad.empty());
    const auto packed = Open(folder / "shards");
    ASSERT_EQ(packed->size(), 50);
    EXPECT_EQ(packed->classes(), source.classes());
    for (int64_t i = 0; i < 50; ++i) {
      EXPECT_EQ(packed->Name(i), source.Name(i));
      EXPECT_EQ(packed->Label(i), source.Label(i));
    }
    EXPECT_EQ(Stream(*packed), Stream(source));
    const ComparisonReport compared = CompareDatasets(*packed, source, 0, 2, {});
    EXPECT_EQ(compared.same_bytes + compared.same_pixels, 50);
    EXPECT_EQ(compared.same_pixels > 0, lossless);
    EXPECT_TRUE(compared.different.empty());
  }
}

TEST(Shards, SeveralProcessesWriteTheBytesOfOne) {
  const FakeDataset source(50);
  const TempFolder folder;
  ShardOptions options = OptionsFor(source, 8);
  options.images.short_side = 30;
  Pack(source, options, folder / "one");
  options.parts = 3;
  int64_t images = 0;
  for (options.part = 0; options.part < 3; ++options.part) {
    images += Pack(source, options, folder / "three").images;
  }
  EXPECT_EQ(images, 50);
  for (int shard = 0; shard < 7; ++shard) {
    const std::string name = fmt::format("/shard-{:06}.tar", shard);
    EXPECT_EQ(testing::ReadFile((folder / "one") + name),
              testing::ReadFile((folder / "three") + name));
  }
}

TEST(Shards, ThoseThatAreMissingAreWrittenAndTheOthersKept) {
  const FakeDataset source(50);
  const TempFolder folder;
  const ShardOptions options = OptionsFor(source, 16);
  Pack(source, options, folder / "shards");
  const std::string lost = folder / "shards/shard-000002.tar";
  const std::string bytes = testing::ReadFile(lost);
  fs::remove(lost);
  // The files that a killed process leaves.
  folder.Write("shards/shard-000002.tar.partial", bytes.substr(0, 700));
  ExpectError(ErrorOf([&] { Open(folder / "shards"); }), ExitCode::kData,
              {"34 images", "50 expected", "data pack"});
  const ShardReport report = Pack(source, options, folder / "shards");
  EXPECT_EQ(report.kept, 3);
  EXPECT_EQ(report.images, 16);
  EXPECT_EQ(testing::ReadFile(lost), bytes);
  EXPECT_EQ(Open(folder / "shards")->size(), 50);
}

TEST(Shards, AFolderBelongsToOneSourceAndOneSetOfOptions) {
  const FakeDataset source(50), other(51);
  const TempFolder folder;
  ShardOptions options = OptionsFor(source, 16);
  Prepare(source, options, folder / "shards");
  ShardOptions more = options;
  more.images.threads = 4;
  more.parts = 2;
  Prepare(source, more, folder / "shards");  // options of how to pack, which change no content
  options.images.quality = 80;
  ExpectError(ErrorOf([&] { Prepare(source, options, folder / "shards"); }), ExitCode::kUsage,
              {"shards.cfg"});
  ExpectError(ErrorOf([&] { Prepare(other, OptionsFor(other, 16), folder / "shards"); }),
              ExitCode::kUsage, {"another source"});
  FakeDataset repaired(50);
  repaired.on_read = [](int64_t, std::vector<uint8_t>& bytes) { bytes.push_back(0); };
  ExpectError(ErrorOf([&] { Prepare(repaired, OptionsFor(repaired, 16), folder / "shards"); }),
              ExitCode::kUsage, {"another source"});
  // A process that died between the two files, and one that holds the lock.
  fs::remove(folder / "shards/classes.txt");
  folder.Write("shards/.lock", "");
  Prepare(source, OptionsFor(source, 16), folder / "shards");
  EXPECT_TRUE(fs::exists(folder / "shards/classes.txt"));
  ExpectError(ErrorOf([&] { Prepare(source, OptionsFor(source, 0), folder / "none"); }),
              ExitCode::kUsage, {"0 images a shard"});
  folder.Write("full/something", "x");
  ExpectError(ErrorOf([&] { Prepare(source, options, folder / "full"); }), ExitCode::kUsage,
              {"not empty"});
}

TEST(Shards, BadImagesAreCopiedForTheLoadersPolicy) {
  FakeDataset source(20);
  source.on_read = [](int64_t sample, std::vector<uint8_t>& bytes) {
    if (sample == 7) bytes.resize(30);
  };
  const TempFolder folder;
  ShardOptions options = OptionsFor(source, 16);
  options.images.short_side = 20;
  const ShardReport report = Pack(source, options, folder / "shards");
  ASSERT_EQ(report.bad.size(), 1u);
  EXPECT_EQ(report.bad[0].name, source.Name(7));
  EncodedSample packed, original;
  Open(folder / "shards")->Read(7, packed);
  source.Read(7, original);
  EXPECT_EQ(packed.bytes, original.bytes);
}

TEST(Shards, ClassesWithoutAnImageKeepTheirNames) {
  const TempFolder folder;
  const FakeDataset source(12, 6);
  ShardOptions options = OptionsFor(source, 16);
  options.images.count = 3;  // samples 0, 4 and 8: classes 0, 2 and 4
  Pack(source, options, folder / "shards");
  const auto packed = Open(folder / "shards");
  EXPECT_EQ(packed->classes(), source.classes());
  EXPECT_EQ(packed->Label(2), 4);
  EXPECT_EQ(packed->Name(2), source.Name(8));
}

TEST(Shards, TooFewClassNamesAreRefused) {
  const TempFolder folder;
  const FakeDataset source(12, 6);
  Pack(source, OptionsFor(source, 16), folder / "shards");
  folder.Write("shards/classes.txt", "a\nb\n");
  ExpectError(ErrorOf([&] { Open(folder / "shards"); }), ExitCode::kData,
              {"classes.txt", "names 2 classes", "6"});
  folder.Write("shards/classes.txt", "a\nb\nc\nd\ne\na\n");
  ExpectError(ErrorOf([&] { Open(folder / "shards"); }), ExitCode::kData, {"distinct"});
}

TEST(CompareDatasets, FindsAnotherPictureLabelOrSize) {
  const FakeDataset source(12, 3);
  const TempFolder folder;
  ShardOptions options = OptionsFor(source, 16);
  options.images.short_side = 30;
  Pack(source, options, folder / "shards");
  const auto packed = Open(folder / "shards");
  const ComparisonReport good = CompareDatasets(*packed, source, 2, 1, {});
  EXPECT_EQ(good.scaled + good.same_bytes, 12);
  EXPECT_GT(good.scaled, 8);
  EXPECT_LE(good.largest_mean_difference, 2);

  FakeDataset other(12, 3);
  other.on_read = [](int64_t sample, std::vector<uint8_t>& bytes) {
    // Another picture of the same shape; another shape.
    if (sample == 3) {
      const std::string file = testing::MakeJpeg(
          std::vector<uint8_t>(static_cast<size_t>(61 * 55 * 3), 250), 61, 55, 3, {});
      bytes.assign(file.begin(), file.end());
    }
    if (sample == 5) {
      const std::string file = testing::MakeJpeg(200, 40, 1, {});
      bytes.assign(file.begin(), file.end());
    }
  };
  const ComparisonReport bad = CompareDatasets(*packed, other, 2, 1, {});
  ASSERT_EQ(bad.different.size(), 2u);
  EXPECT_EQ(bad.different[0].name, source.Name(3));
  EXPECT_NE(bad.different[0].reason.find("mean colour"), std::string::npos);
  EXPECT_NE(bad.different[1].reason.find("200 x 40"), std::string::npos);
  const FakeDataset other_classes(12, 4);
  EXPECT_FALSE(CompareDatasets(*packed, other_classes, 2, 1, {}).different.empty());
  const FakeDataset fewer(11, 3);
  ExpectError(ErrorOf([&] { CompareDatasets(*packed, fewer, 2, 1, {}); }), ExitCode::kData,
              {"12 images", "11"});
}

// --- Lossless transcoding ------------------------------------------------------------------------

TEST(Transcode, KeepsEveryPixelAndDropsMetadata) {
  JpegWriter transcoder;
  const std::string comment = std::string("\xFF\xFE\x01\x02", 4) + std::string(256, 'c');
  for (const testing::JpegForm& form :
       {testing::JpegForm{}, testing::JpegForm{.h = 2, .v = 2}, testing::JpegForm{.h = 2},
        testing::JpegForm{.v = 2}, testing::JpegForm{.progressive = true},
        testing::JpegForm{.restart_rows = 1}}) {
    std::string file = testing::MakeJpeg(77, 53, 3, form);
    const testing::DecodedJpeg before = testing::PlainDecode(file);
    file.insert(2, comment);
    std::vector<uint8_t> into;
    ASSERT_TRUE(transcoder.Transcode({file.begin(), file.end()}, into));
    const std::string after(into.begin(), into.end());
    EXPECT_EQ(testing::PlainDecode(after).pixels, before.pixels);
    EXPECT_EQ(after.find("cccc"), std::string::npos);
    EXPECT_LT(after.size(), file.size());
  }
}

TEST(Transcode, RefusesFilesWithAnythingAmissAndGoesOn) {
  JpegWriter transcoder;
  const std::string file = testing::MakeJpeg(77, 53, 3, {});
  std::vector<uint8_t> into;
  for (const size_t bytes : {size_t{0}, size_t{2}, size_t{300}, file.size() / 2}) {
    EXPECT_FALSE(transcoder.Transcode(
        {file.begin(), file.begin() + static_cast<std::ptrdiff_t>(bytes)}, into))
        << bytes;
    EXPECT_TRUE(transcoder.Transcode({file.begin(), file.end()}, into));
  }
}

TEST(Transcode, RefusesMoreScansThanAnImageMayHave) {
  const std::string file = testing::MakeJpeg(40, 40, 3, {.progressive = true});
  // The last scan, from its header to the end of the image, many times over.
  const size_t scan = file.rfind("\xFF\xDA");
  std::string many = file.substr(0, scan);
  for (int i = 0; i < 2 * kMostScans; ++i) many += file.substr(scan, file.size() - 2 - scan);
  many += file.substr(file.size() - 2);
  JpegWriter transcoder;
  std::vector<uint8_t> into;
  EXPECT_TRUE(transcoder.Transcode({file.begin(), file.end()}, into));
  EXPECT_FALSE(transcoder.Transcode({many.begin(), many.end()}, into));
}

// Images of 50 x 40 pixels, each another, below "source".
void WriteSource(const TempFolder& folder, const std::vector<std::string>& names) {
  uint32_t seed = 0;
  for (const std::string& name : names) {
    ++seed;
    folder.Write("source/" + name,
                 name.ends_with("png")
                     ? testing::MakePng(testing::TestPixels(50, 40, 3, seed), 50, 40, 3)
                     : testing::MakeJpeg(50, 40, seed));
  }
}

TEST(Shards, KeepTheOrderOfClassesOfWhichOneBeginsAsAnother) {
  const TempFolder folder;
  WriteSource(folder, {"dog/a.jpg", "dog/b.jpg", "dog-small/a.jpg", "dog-small/c.jpg", "do/x.jpg"});
  const auto source = Open(folder / "source");
  Pack(*source, OptionsFor(*source, 2), folder / "shards");
  const auto packed = Open(folder / "shards");
  EXPECT_EQ(packed->classes(), source->classes());
  for (int64_t i = 0; i < source->size(); ++i) {
    EXPECT_EQ(packed->Name(i), source->Name(i));
    EXPECT_EQ(packed->Label(i), source->Label(i));
  }
  EXPECT_EQ(Stream(*packed), Stream(*source));
}

TEST(Shards, NamesWithSeveralPointsAreFoundAgain) {
  const TempFolder folder;
  WriteSource(folder, {"c/img.1.jpg", "c/img1.jpg", "c/img.2.jpg", "c/1.png", "c/10.png"});
  const auto source = Open(folder / "source");
  ShardOptions options = OptionsFor(*source, 3);
  options.images.short_side = 30;
  Pack(*source, options, folder / "shards");
  const ComparisonReport report = CompareDatasets(*Open(folder / "shards"), *source, 3, 1, {});
  EXPECT_EQ(report.scaled, 5);
  EXPECT_TRUE(report.different.empty());
}

TEST(Shards, ImagesWhoseNamesDifferInTheirExtensionsAreAllPacked) {
  const TempFolder folder;
  WriteSource(folder,
              {"cat/Image_1.jpeg", "cat/Image_1.jpg", "cat/Image_1.png", "cat/Image_1 (2).jpg",
               "cat/Image_1.JPG", "cat/Image_10.jpg", "cat/Image_10.png", "cat/Image_2.jpg",
               "cat/Image_1b.jpg", "dog/Image_1.jpg", "dog/Image_1_b.jpg"});
  const auto source = Open(folder / "source");
  for (const int64_t images_per_shard : {3, 100}) {
    const std::string path = folder / fmt::format("by-{}", images_per_shard);
    Pack(*source, OptionsFor(*source, images_per_shard), path);
    const auto packed = Open(path);
    ASSERT_EQ(packed->size(), source->size());
    EXPECT_EQ(packed->Name(1), "cat/Image_1-JPG.JPG");
    EXPECT_EQ(packed->Name(9), "dog/Image_1.jpg") << "no other of its class has this name";
    EXPECT_EQ(Stream(*packed), Stream(*source));
    const ComparisonReport report = CompareDatasets(*packed, *source, 0, 1, {});
    EXPECT_EQ(report.same_bytes, source->size());
    EXPECT_EQ(report.different.size(), 0u);
    const auto held_out = [](const std::shared_ptr<const Dataset>& dataset) {
      return Stream(*SplitByName(dataset, 0.4).held_out);
    };
    EXPECT_EQ(held_out(packed), held_out(source));
  }
  // When scaled, a PNG becomes a JPEG.
  ShardOptions options = OptionsFor(*source, 3);
  options.images.short_side = 30;
  Pack(*source, options, folder / "small");
  const ComparisonReport report = CompareDatasets(*Open(folder / "small"), *source, 3, 1, {});
  EXPECT_EQ(report.scaled, source->size());
  EXPECT_EQ(report.different.size(), 0u);
}

TEST(Shards, ImagesOfOneNameInAShardAreAnError) {
  const TempFolder folder;
  folder.Write("source/cat/a.b.jpg", testing::MakeJpeg(50, 40, 1));
  folder.Write("source/cat/a_b.jpg", testing::MakeJpeg(50, 40, 2));
  const auto source = Open(folder / "source");
  ExpectError(ErrorOf([&] { Pack(*source, OptionsFor(*source, 9), folder / "shards"); }),
              ExitCode::kData, {"cat/a_b-jpg", "rename"});
}

TEST(Shards, PlainPixelsThatCannotBeScaledAreAnErrorAndNoFile) {
  const TempFolder folder;
  const auto source = OpenDataset("synthetic:4x2", {}, testing::QuietLog());
  ShardOptions options = OptionsFor(*source, 3);
  options.images.short_side = 9000;
  ExpectError(ErrorOf([&] { Pack(*source, options, folder / "shards"); }), ExitCode::kData,
              {"plain pixels"});
}

TEST(Shards, OddFilesKeepEveryPixelWhenPackedLossless) {
  CONVOY_NEED_SHARED("data/odd");
  const TempFolder folder;
  for (const auto& entry : fs::directory_iterator(testing::SharedPath("data/odd"))) {
    const std::string name = entry.path().filename().string();
    if (name.find("bomb") != std::string::npos || !name.ends_with(".JPEG")) continue;
    folder.Write("odd/files/" + name, testing::ReadFile(entry.path().string()));
  }
  const auto source = Open(folder / "odd");
  ShardOptions options = OptionsFor(*source, 100);
  options.images.lossless = true;
  Pack(*source, options, folder / "shards");
  const auto packed = Open(folder / "shards");
  const ComparisonReport report = CompareDatasets(*packed, *source, 0, 1, {});
  EXPECT_TRUE(report.different.empty());
  EXPECT_GT(report.same_pixels, 8) << "among them CMYK and YCCK";
  EXPECT_EQ(report.scaled, 0);
}

}  // namespace
}  // namespace convoy
