// Indexing that is interrupted, the published archives, the headers of images.
#include "dataloader/archives/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "dataloader/fingerprint.h"
#include "dataloader/statistics.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using testing::ErrorOf;
using testing::TarMaker;
using testing::TempFolder;

// A tar of four class tars of ten images.
std::string NestedImages() {
  TarMaker outer;
  for (int c = 0; c < 4; ++c) {
    TarMaker inner;
    for (int i = 0; i < 10; ++i) {
      inner.Add(fmt::format("{}.JPEG", i), testing::MakeJpeg(9, 9, static_cast<uint32_t>(i)));
    }
    outer.Add(fmt::format("n{}.tar", c), inner.Finish());
  }
  return outer.Finish();
}

ArchiveContents Index(const std::string& path, const std::string& index) {
  Archives archives;
  archives.push_back(std::make_unique<FileBytes>(path));
  return ReadOrLoadArchives(archives, index, testing::QuietLog());
}

std::vector<std::string> FilesOf(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(InterruptedIndex, LeavesNothingAndIsMadeWholeTheNextTime) {
  const TempFolder folder;
  const std::string good = NestedImages();
  // The walk ends in the middle of the archive, as a kill would end it.
  const std::string path = folder.Write("a.tar", good.substr(0, good.size() / 2));
  const Error error = ErrorOf([&] { Index(path, folder / "index"); });
  testing::ExpectError(error, ExitCode::kData, {"a.tar"});
  EXPECT_EQ(FilesOf(folder.path()), std::vector<std::string>{"a.tar"});

  folder.Write("a.tar", good);
  EXPECT_EQ(Index(path, folder / "index").members.size(), 40);
  EXPECT_EQ(FilesOf(folder.path()), (std::vector<std::string>{"a.tar", "index"}));
  EXPECT_EQ(Index(path, folder / "index").members.size(), 40) << "from the index";
}

// --- Published archives --------------------------------------------------------------------------

TEST(Published, SizesAreKnownByTheOfficialNames) {
  EXPECT_EQ(PublishedBytes("/data/ILSVRC2012_img_train.tar"), 147'897'477'120);
  EXPECT_EQ(PublishedBytes("ILSVRC2012_img_val.tar"), 6'744'924'160);
  EXPECT_FALSE(PublishedBytes("/data/ILSVRC2012_img_train.tar/other.tar"));
}

// --- Image headers -------------------------------------------------------------------------------

TEST(ImageHeaders, HoldSizesSamplingAndKindsOfEveryImage) {
  const TempFolder folder;
  folder.Write("c/a.jpg", testing::MakeJpeg(30, 20, 1, {.h = 2, .v = 2}));
  folder.Write("c/b.jpg", testing::MakeJpeg(31, 21, 1, {.h = 2}));
  folder.Write("c/c.jpg", testing::MakeJpeg(32, 22, 1, {.progressive = true}));
  folder.Write("c/d.jpg", testing::MakeJpeg(testing::TestPixels(8, 9, 1, 1), 8, 9, 1));
  folder.Write("c/e.png", testing::MakePng(testing::TestPixels(5, 6, 3, 1), 5, 6, 3));
  folder.Write("c/f.jpg", "no image");
  const auto dataset = OpenDataset(folder.path(), {}, testing::QuietLog());
  const ImageHeaders headers = ReadImageHeaders(*dataset, 2, {});
  EXPECT_EQ(headers.width, (std::vector<uint16_t>{30, 31, 32, 8, 5, 0}));
  EXPECT_EQ(headers.height, (std::vector<uint16_t>{20, 21, 22, 9, 6, 0}));
  EXPECT_EQ(headers.sampling[0], 0x22);
  EXPECT_EQ(headers.sampling[1], 0x21);
  EXPECT_EQ(headers.sampling[2], 0x11);
  EXPECT_EQ(headers.flags,
            (std::vector<uint8_t>{0, 0, ImageHeaders::kProgressive, ImageHeaders::kGrey,
                                  ImageHeaders::kPng, ImageHeaders::kBad}));
  EXPECT_EQ(headers.CountOf(ImageHeaders::kPng), 1);

  const std::string path = folder / "headers";
  SaveImageHeaders(headers, path);
  const ImageHeaders loaded = LoadImageHeaders(path);
  EXPECT_EQ(loaded.width, headers.width);
  EXPECT_EQ(loaded.flags, headers.flags);
  folder.Write("headers", testing::ReadFile(path).replace(20, 1, "!"));
  EXPECT_EQ(ErrorOf([&] { LoadImageHeaders(path); }).exit_code(), ExitCode::kData);
}

TEST(ImageHeaders, AgreeWithTheTableOfThePhotographs) {
  CONVOY_NEED_SHARED("data/photos-mini.tsv");
  const TempFolder folder;
  const auto dataset = OpenDataset(testing::SharedPath("data/photos-mini.tar"),
                                   {.index_folder = folder.path()}, testing::QuietLog());
  const ImageHeaders headers = ReadImageHeaders(*dataset, 2, {});
  EXPECT_EQ(std::count(headers.sampling.begin(), headers.sampling.end(), 0x22), 24);
  EXPECT_EQ(std::count(headers.sampling.begin(), headers.sampling.end(), 0x21), 1);
  EXPECT_EQ(headers.CountOf(ImageHeaders::kGrey), 1);
  EXPECT_EQ(*std::max_element(headers.height.begin(), headers.height.end()), 1600);
}

}  // namespace
}  // namespace convoy
