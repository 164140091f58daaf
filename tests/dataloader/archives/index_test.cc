// Indexing that was interrupted, the published archives, the headers of images.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "dataloader/archives/archive.h"
#include "dataloader/fingerprint.h"
#include "dataloader/statistics.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using testing::ErrorOf;
using testing::TarMaker;
using testing::TempFolder;

// Overwrites a part of a file and leaves its time as it was.
void Overwrite(const std::string& path, int64_t at, const std::string& bytes) {
  const fs::file_time_type time = fs::last_write_time(path);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  file << bytes;
  file.close();
  fs::last_write_time(path, time);
}

std::string ManyImages(bool with_labels) {
  TarMaker tar;
  for (int i = 0; i < 40; ++i) {
    const std::string key = fmt::format("c{}/{:03}", i % 4, i);
    tar.Add(key + ".jpg", testing::MakeJpeg(9, 9, static_cast<uint32_t>(i)));
    if (with_labels) tar.Add(key + ".cls", std::to_string(i % 4));
  }
  return tar.Finish();
}

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

std::string Listing(const ArchiveContents& contents) {
  std::string text =
      fmt::format("{} {}", static_cast<int>(contents.kind), contents.left_out.Listing());
  const MemberTable& members = contents.members;
  for (int64_t i = 0; i < members.size(); ++i) {
    const auto row = static_cast<size_t>(i);
    text += fmt::format("\n{}/{} {} {}", members.folders[members.FolderIndex(i)], members.Name(i),
                        members.offset[row], members.bytes[row]);
  }
  return text;
}

Archives OpenAll(const std::vector<std::string>& paths) {
  Archives archives;
  for (const std::string& path : paths) archives.push_back(std::make_unique<FileBytes>(path));
  return archives;
}

TEST(UnfinishedIndex, GoesOnWithoutReadingTheFirstHeadersAgain) {
  const std::string forms[] = {ManyImages(false), ManyImages(true), NestedImages()};
  for (const std::string& bytes : forms) {
    const TempFolder folder;
    const std::string first = folder.Write("a.tar", bytes);
    const std::string second = folder.Write("b.tar", forms[1]);
    // Two archives where the form allows it: shards.
    const std::vector<std::string> paths =
        &bytes == &forms[1] ? std::vector{first, second} : std::vector{first};
    const std::string last = paths.back();
    const WalkOptions options{.unfinished_path = folder / "unfinished", .save_every_s = 0};
    const std::string expected = Listing(ReadArchives(OpenAll(paths), testing::QuietLog()));
    // A header near the end of the last archive is damaged: the walk stops there, as a kill would
    // stop it.
    const auto size = static_cast<int64_t>(fs::file_size(last));
    const std::string good = testing::ReadFile(last);
    const auto end_mark = static_cast<int64_t>(good.find_last_not_of('\0')) / 512 * 512;
    ASSERT_LT(end_mark, size);
    const std::string garbage(512, 'x');
    Overwrite(last, end_mark / 2 / 512 * 512, garbage);
    for (int64_t at = end_mark / 2 / 512 * 512; at < end_mark; at += 512)
      Overwrite(last, at, garbage);
    EXPECT_EQ(
        ErrorOf([&] { ReadArchives(OpenAll(paths), testing::QuietLog(), options); }).exit_code(),
        ExitCode::kData);
    ASSERT_TRUE(fs::exists(folder / "unfinished"));
    // The end is whole again, and the start, which has been read, is damaged.
    Overwrite(last, 0, good);
    Overwrite(first, 0, garbage);
    EXPECT_EQ(Listing(ReadArchives(OpenAll(paths), testing::QuietLog(), options)), expected);
  }
}

TEST(UnfinishedIndex, OfAnotherArchiveOrDamagedIsNotUsed) {
  const TempFolder folder;
  const std::string path = folder.Write("a.tar", NestedImages());
  const WalkOptions options{.unfinished_path = folder / "unfinished", .save_every_s = 0};
  const std::string expected = Listing(ReadArchives(OpenAll({path}), testing::QuietLog(), options));
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(3));
  EXPECT_EQ(Listing(ReadArchives(OpenAll({path}), testing::QuietLog(), options)), expected);
  folder.Write("unfinished", "CONVOYUF and nothing else that makes sense");
  EXPECT_EQ(Listing(ReadArchives(OpenAll({path}), testing::QuietLog(), options)), expected);
}

TEST(UnfinishedIndex, IsRemovedWhenTheIndexIsThere) {
  const TempFolder folder;
  const std::string path = folder.Write("a.tar", NestedImages());
  ReadOrLoadArchives(OpenAll({path}), folder / "index", testing::QuietLog());
  EXPECT_TRUE(fs::exists(folder / "index"));
  EXPECT_FALSE(fs::exists(folder / "index.unfinished"));
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
