// An output never replaces what it is made from.
#include <gtest/gtest.h>

#include <filesystem>

#include "dataloader/packing.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using testing::ErrorOf;
using testing::ExpectError;
using testing::TempFolder;

class PackSourceTest : public ::testing::Test {
 protected:
  void ExpectRefused(const std::string& location, const std::string& output) {
    const auto dataset =
        OpenDataset(location, {.index_folder = folder_ / "index"}, testing::QuietLog());
    ExpectError(ErrorOf([&] { RequireOtherThanSource(*dataset, location, "", output); }),
                ExitCode::kUsage, {output});
  }
  void ExpectTaken(const std::string& location, const std::string& output) {
    const auto dataset =
        OpenDataset(location, {.index_folder = folder_ / "index"}, testing::QuietLog());
    EXPECT_NO_THROW(RequireOtherThanSource(*dataset, location, "", output)) << output;
  }
  TempFolder folder_;
};

TEST_F(PackSourceTest, AnArchiveIsKnownByAllItsNames) {
  testing::TarMaker tar;
  tar.Add("train/cat/1.jpg", "x").Add("val/cat/2.jpg", "y");
  const std::string path = folder_.Write("a.tar", tar.Finish());
  fs::create_symlink(path, folder_ / "link.tar");
  fs::create_hard_link(path, folder_ / "hard.tar");
  fs::create_directory_symlink(folder_.path(), folder_ / "here");
  for (const char* name : {"a.tar", "./a.tar", "link.tar", "hard.tar", "here/a.tar"}) {
    ExpectRefused(path + ":train", folder_ / name);
  }
  ExpectTaken(path + ":train", folder_ / "b.tar");
  ExpectTaken(path + ":train", folder_ / "packed");
}

TEST_F(PackSourceTest, AnArchiveIsNotTakenForAPartialOutput) {
  testing::TarMaker tar;
  tar.Add("cat/1.jpg", "x");
  const std::string path = folder_.Write("a.tar.partial", tar.Finish());
  ExpectRefused(path, folder_ / "a.tar");
}

TEST_F(PackSourceTest, AListOfLabelsIsASourceToo) {
  folder_.Write("images/1.jpg", "x");
  const std::string list = folder_.Write("images.csv", "id,label\n1,cat\n");
  ExpectRefused(list, list);
  ExpectRefused(folder_ / "images:images.csv", list);
  ExpectTaken(list, folder_ / "packed.tar");
}

TEST_F(PackSourceTest, TheDevelopmentKitIsASourceToo) {
  folder_.Write("data/cat/1.jpg", "x");
  const std::string devkit = folder_.Write("devkit.txt", "n01440764");
  const auto dataset = OpenDataset(folder_ / "data", {}, testing::QuietLog());
  ExpectError(ErrorOf([&] { RequireOtherThanSource(*dataset, folder_ / "data", devkit, devkit); }),
              ExitCode::kUsage, {devkit});
}

TEST_F(PackSourceTest, NothingIsWrittenIntoAFolderThatIsRead) {
  folder_.Write("data/train/cat/1.jpg", "x");
  folder_.Write("data/val/cat/1.jpg", "x");
  fs::create_directory_symlink(folder_ / "data/train", folder_ / "link");
  const std::string train = folder_ / "data/train";
  for (const std::string& location : {train, (folder_ / "data") + ":train"}) {
    for (const char* output : {"data/train", "data/train/", "data/train/packed", "data/train/a.tar",
                               "link", "link/packed/deep"}) {
      ExpectRefused(location, folder_.path() + "/" + output);
    }
    ExpectTaken(location, folder_ / "data/train-256");
    ExpectTaken(location, folder_ / "packed");
  }
}

TEST_F(PackSourceTest, AnArchiveOfAFolderOfLinksIsOneToo) {
  testing::TarMaker tar;
  tar.Add("1.jpg", "x");
  const std::string cat = folder_.Write("elsewhere/cat.tar", tar.Finish());
  const std::string dog = folder_.Write("elsewhere/dog.tar", tar.Finish());
  fs::create_directory(folder_ / "tars");
  fs::create_symlink(cat, (folder_ / "tars") + "/cat.tar");
  fs::create_symlink(dog, (folder_ / "tars") + "/dog.tar");
  ExpectRefused(folder_ / "tars", dog);
  ExpectTaken(folder_ / "tars", folder_ / "elsewhere/bird.tar");
}

}  // namespace
}  // namespace convoy
