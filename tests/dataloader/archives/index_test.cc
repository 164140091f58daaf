// Indexing that is interrupted, and the published archives.
#include "dataloader/archives/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "dataloader/fingerprint.h"
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

}  // namespace
}  // namespace convoy
