// What lies beside the data in a folder: dead archives, strays, a run's folder, what macOS adds.
#include "dataloader/sources/folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "dataloader/archives/names.h"
#include "dataloader/dataset.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using testing::ErrorOf;
using testing::ExpectError;
using testing::TarMaker;
using testing::TempFolder;

std::string Image(uint32_t seed = 1) { return testing::MakeJpeg(8, 8, seed); }

class FolderTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> Open(const std::string& name) {
    return OpenDataset(folder_ / name, {.index_folder = folder_ / "kept/index"},
                       testing::QuietLog());
  }
  Error Refused(const std::string& name) {
    return ErrorOf([&] { Open(name); });
  }
  // Two images in each of two classes.
  void WriteClasses(const std::string& root) {
    for (const char* name : {"cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg"}) {
      folder_.Write(root + "/" + name, Image());
    }
  }
  void WriteShard(const std::string& name, const std::string& prefix = "") {
    TarMaker tar;
    for (const char* key : {"0", "1"}) {
      tar.Add(prefix + key + ".jpg", Image()).Add(prefix + key + ".cls", key);
    }
    folder_.Write(name, tar.Finish());
  }

  TempFolder folder_;
};

// --- Tars whose first member is a folder ---------------------------------------------------------

std::string PaxTime() { return "30 mtime=1350244992.023960108\n"; }

TEST_F(FolderTest, TarsThatBeginWithTheirFolderAreWhatTheyHold) {
  // Returns what stands before the first file of the folder "f".
  const std::vector<std::function<void(TarMaker&)>> starts = {
      [](TarMaker& tar) { tar.Add("./", "", '5'); },
      [](TarMaker& tar) { tar.Add("f/", "", '5').Add("f/README", "text"); },
      [](TarMaker& tar) { tar.Add("PaxHeaders/f", PaxTime(), 'x').Add("f/", "", '5'); },
      [](TarMaker& tar) { tar.Add("././@LongLink", "./f/", 'L').Add("x", "", '5'); }};
  for (size_t i = 0; i < starts.size(); ++i) {
    SCOPED_TRACE(i);
    const std::string shards = "shards" + std::to_string(i);
    for (int shard = 0; shard < 2; ++shard) {
      TarMaker tar;
      starts[i](tar);
      tar.Add("f/0.jpg", Image()).Add("f/0.cls", "0").Add("f/1.cls", "1").Add("f/1.jpg", Image());
      folder_.Write(fmt::format("{}/{}.tar", shards, shard), tar.Finish());
    }
    EXPECT_EQ(Open(shards)->size(), 4);
    EXPECT_EQ(Open(shards + "/0.tar")->size(), 2);
  }
  // Class tars as plain tar writes them: the folder of the class first.
  for (const char* name : {"n01", "n02"}) {
    folder_.Write(fmt::format("plain/{}.tar", name), TarMaker()
                                                         .Add(std::string(name) + "/", "", '5')
                                                         .Add(std::string(name) + "/0.jpg", Image())
                                                         .Finish());
  }
  EXPECT_EQ(Open("plain")->classes(), (std::vector<std::string>{"n01", "n02"}));
}

TEST_F(FolderTest, ATarOfTarsIsSeenBehindItsFolder) {
  TarMaker nested;
  nested.Add("train/", "", '5').Add("train/notes.txt", "text");
  nested.Add("train/n01.tar", TarMaker().Add("0.jpg", Image()).Finish());
  folder_.Write("archives/a.tar", nested.Finish());
  EXPECT_EQ(Open("archives/a.tar")->size(), 1);
  folder_.Write("archives/b.tar", nested.Finish());
  ExpectError(Refused("archives"), ExitCode::kData, {"several archives", "a.tar, b.tar"});
}

// --- Dead files among tars -----------------------------------------------------------------------

TEST_F(FolderTest, AFileAmongTarsThatIsNoTarIsNamed) {
  const std::string good = TarMaker().Add("0.jpg", Image()).Add("0.cls", "0").Finish();
  const std::pair<std::string, std::string> dead[] = {
      {"", "empty"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"},
      {"<!DOCTYPE html><html></html>", "an HTML page"},
      {testing::Gzip(good), "a gzip file"},
      {std::string(10240, '\0'), "zeros"},
      {good.substr(0, 300), "a tar that is cut off"},
      {std::string("\1\2\3\4\5"), "of an unknown kind"}};
  for (const auto& [content, what] : dead) {
    SCOPED_TRACE(what);
    WriteShard("shards/0.tar");
    folder_.Write("shards/1.tar", content);
    ExpectError(Refused("shards"), ExitCode::kData, {"1.tar", what});
  }
  folder_.Write("shards/0.tar", "");
  ExpectError(Refused("shards"), ExitCode::kData, {"2 files", "0.tar", "empty"});
}

TEST_F(FolderTest, LinksToNothingFifosAndEmptyTarsAmongTarsAreNamed) {
  WriteShard("link/0.tar");
  fs::create_symlink("/no/such/annex/key", folder_ / "link/1.tar");
  ExpectError(Refused("link"), ExitCode::kData, {"1.tar", "a link to nothing"});
  WriteShard("fifo/0.tar");
  ASSERT_EQ(mkfifo((folder_ / "fifo/1.tar").c_str(), 0600), 0);
  ExpectError(Refused("fifo"), ExitCode::kData, {"1.tar", "a pipe"});
  for (const char* form : {"shards", "classes"}) {
    WriteShard(std::string(form) + "/0.tar");
    folder_.Write(std::string(form) + "/1.tar",
                  TarMaker().Add("n03/", "", '5').Add("n03/notes.txt", "none").Finish());
    ExpectError(Refused(form), ExitCode::kData, {"1.tar", "without images"});
  }
}

TEST_F(FolderTest, TarsBesideFoldersOrImagesAreNamed) {
  WriteClasses("half");
  folder_.Write("half/eel.tar", TarMaker().Add("0.jpg", Image()).Finish());
  ExpectError(Refused("half"), ExitCode::kData, {"eel.tar", "folders of images", "cat"});
  WriteClasses("dead");
  folder_.Write("dead/eel.tar", "");
  ExpectError(Refused("dead"), ExitCode::kData, {"eel.tar", "empty"});
  WriteShard("loose/0.tar");
  folder_.Write("loose/x.png", "x");
  ExpectError(Refused("loose"), ExitCode::kData, {"0.tar", "images", "x.png"});
  WriteShard("deeper/0.tar");
  WriteShard("deeper/more/1.tar");
  ExpectError(Refused("deeper"), ExitCode::kData, {"0.tar", "folders of tars", "more"});
  WriteShard("splits/train/0.tar");
  WriteShard("splits/val/0.tar");
  ExpectError(Refused("splits"), ExitCode::kData, {"train, val", "splits:train"});
  EXPECT_EQ(Open("splits:val")->size(), 2);
}

TEST_F(FolderTest, NotesBesideTarsAreLeftOutAndCounted) {
  WriteShard("shards/0.tar");
  WriteShard("shards/1.tar");
  for (const char* name : {"README.md", "0.json", "SHA256SUMS", "README", ".hidden", "._0.tar",
                           "0.tar.convoy-index", "scripts/make.txt", "Thumbs.db"}) {
    folder_.Write(std::string("shards/") + name, "text");
  }
  const auto dataset = Open("shards");
  EXPECT_EQ(dataset->size(), 4);
  EXPECT_EQ(dataset->left_out().Listing(),
            "2 without an extension (README), 1 .json, 1 .md, 1 folder without images (scripts)");
}

TEST_F(FolderTest, AClassTarInsideOfATarMustBeOne) {
  const std::string good = TarMaker().Add("0.jpg", Image()).Finish();
  folder_.Write("empty.tar", TarMaker().Add("n01.tar", good).Add("n02.tar", "").Finish());
  ExpectError(Refused("empty.tar"), ExitCode::kData, {"n02.tar of 0 bytes is no tar"});
  folder_.Write("gzip.tar",
                TarMaker().Add("n01.tar", good).Add("n02.tar.gz", testing::Gzip(good)).Finish());
  ExpectError(Refused("gzip.tar"), ExitCode::kData, {"n02.tar.gz", "cannot be read in place"});
}

// --- A run's own folder --------------------------------------------------------------------------

TEST_F(FolderTest, FoldersOfRunsAreNoClasses) {
  WriteClasses("flowers");
  const auto before = Open("flowers");
  for (const char* run : {"runs/default", "runs/other", "dog/runs/x", "."}) {
    folder_.Write(std::string("flowers/") + run + "/config.cfg", "epochs = 1\n");
    folder_.Write(std::string("flowers/") + run + "/checkpoints/step-1.safetensors", "x");
    folder_.Write(std::string("flowers/") + run + "/previous-1/checkpoints/a.png", "x");
  }
  folder_.Write("flowers/runs/refused/exit.0.json", "{}");
  fs::create_directories(folder_ / "flowers/runs/refused");
  const auto after = Open("flowers");
  EXPECT_EQ(after->classes(), before->classes());
  ASSERT_EQ(after->size(), before->size());
  for (int64_t i = 0; i < after->size(); ++i) EXPECT_EQ(after->Name(i), before->Name(i));
  EXPECT_EQ(ReadFolders(folder_ / "flowers").runs.size(), 6u);
  // A folder of that name that holds images is a class.
  WriteClasses("mail");
  folder_.Write("mail/runs/0.jpg", Image());
  EXPECT_EQ(Open("mail")->classes().size(), 3u);
}

// --- Files that are no images --------------------------------------------------------------------

TEST_F(FolderTest, WhatIsLeftOutIsCountedByKindForFoldersAndArchivesAlike) {
  TarMaker tar, nested;
  for (const char* name : {"cat", "dog"}) {
    TarMaker inner;
    for (const char* file :
         {"0.jpg", "1.webp", "2.bmp", "3.WEBP", "notes", ".DS_Store", "._0.jpg"}) {
      const std::string path = std::string(name) + "/" + file;
      folder_.Write("plain/" + path, Image());
      tar.Add(path, Image());
      inner.Add(file, Image());
    }
    nested.Add(std::string(name) + ".tar", inner.Finish());
  }
  folder_.Write("flat.tar", tar.Finish());
  folder_.Write("nested.tar", nested.Finish());
  for (const char* form : {"plain", "flat.tar", "nested.tar", "flat.tar", "nested.tar"}) {
    const auto dataset = Open(form);  // the second time from the index
    EXPECT_EQ(dataset->size(), 2) << form;
    EXPECT_EQ(dataset->left_out().Sentence(),
              "left out 8 files that are no JPEG or PNG: 4 .webp, 2 .bmp, 2 without an extension "
              "(cat/notes)")
        << form;
  }
}

TEST_F(FolderTest, AClassOfOtherFilesSaysWhatItHolds) {
  WriteClasses("webp");
  for (int i = 0; i < 12; ++i) folder_.Write(fmt::format("webp/eel/{}.webp", i), "RIFF");
  ExpectError(Refused("webp"), ExitCode::kData, {"eel holds 12 .webp files, JPEG or PNG expected"});
  fs::remove_all(folder_ / "webp/cat");
  fs::remove_all(folder_ / "webp/dog");
  ExpectError(Refused("webp"), ExitCode::kData, {"no image", "12 .webp"});
  folder_.Write(
      "webp.tar",
      TarMaker().Add("cat/0.jpg", "x").Add("dog/", "", '5').Add("dog/0.webp", "x").Finish());
  ExpectError(Refused("webp.tar"), ExitCode::kData, {"dog holds no image", "1 .webp"});
  folder_.Write("shard.tar", TarMaker().Add("0.cls", "0").Add("0.webp", "x").Finish());
  ExpectError(Refused("shard.tar"), ExitCode::kData, {"0.cls", "0.webp"});
}

TEST_F(FolderTest, LinksToNothingAndSpecialFilesAmongImagesAreNamed) {
  WriteClasses("links");
  fs::create_symlink("/no/such/key", folder_ / "links/cat/2.jpg");
  ASSERT_EQ(mkfifo((folder_ / "links/cat/3.jpg").c_str(), 0600), 0);
  const FolderContents contents = ReadFolders(folder_ / "links");
  EXPECT_EQ(contents.members.size(), 5) << "a link to nothing is a bad image, as a torn file is";
  EXPECT_EQ(contents.dangling.Listing(), "1 link to nothing (cat/2.jpg)");
  EXPECT_EQ(contents.left_out.Listing(), "1 pipe (cat/3.jpg)");
  fs::create_symlink("/no/such/folder", folder_ / "links/eel");
  ExpectError(Refused("links"), ExitCode::kData, {"links/eel", "link to nothing"});
}

TEST_F(FolderTest, FoldersThatAreTooDeepAreCounted) {
  WriteClasses("a/b/c");
  folder_.Write("a/b/c/cat/more/deep/x.jpg", Image());
  EXPECT_EQ(ReadFolders(folder_ / "a").left_out.Listing(),
            "1 folder below 4 others (b/c/cat/more/deep)");
}

TEST_F(FolderTest, OnlyRegularFilesAndFoldersAreData) {
  const std::string fifo = folder_ / "fifo.tar";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  ExpectError(Refused("fifo.tar"), ExitCode::kData, {"fifo.tar is a pipe"});
  ExpectError(ErrorOf([] { OpenDataset("/dev/null", {}, testing::QuietLog()); }), ExitCode::kData,
              {"/dev/null is a device"});
  ExpectError(ErrorOf([&] { OpenImages({fifo}); }), ExitCode::kData, {"fifo.tar is a pipe"});
  ASSERT_EQ(mkfifo((folder_ / "idx/train-images-idx3-ubyte").c_str(), 0600), 0);
  folder_.Write("idx/train-labels-idx1-ubyte", "x");
  ExpectError(Refused("idx:train"), ExitCode::kData, {"train-images-idx3-ubyte"});
}

// --- What macOS and other systems add ------------------------------------------------------------

TEST(IgnoredNames, AreThoseThatNoDataSetMeans) {
  for (const char* name : {"._a.jpg", ".DS_Store", "__MACOSX", "Icon\r", "Thumbs.db", "desktop.ini",
                           "@eaDir", "a.partial", "x.tar.convoy-index", "x.convoy-stats", ""}) {
    EXPECT_TRUE(IsIgnoredPath(name)) << name;
    EXPECT_TRUE(IsIgnoredPath(std::string("a/") + name + "/b.jpg")) << name;
  }
  for (const char* name : {"a.jpg", "MACOSX", "x.convoy", "convoy-index"}) {
    EXPECT_FALSE(IsIgnoredPath(std::string("a/") + name)) << name;
  }
}

TEST_F(FolderTest, WhatMacOsAddsIsIgnoredInEveryForm) {
  WriteClasses("folder");
  const std::string image = Image();
  for (const char* name :
       {"._0.jpg", "cat/._0.jpg", "__MACOSX/cat/._0.jpg", "._cat", ".DS_Store"}) {
    folder_.Write(std::string("folder/") + name, "Mac OS X");
  }
  EXPECT_EQ(Open("folder")->size(), 4);
  EXPECT_TRUE(Open("folder")->left_out().empty());
  TarMaker inner, shard;
  inner.Add("._0.jpg", "x").Add("0.jpg", image).Add("__MACOSX/._0.jpg", "x");
  inner.Add("__MACOSX/1.jpg", "x");
  folder_.Write("nested.tar",
                TarMaker().Add("._n01.tar", "x").Add("n01.tar", inner.Finish()).Finish());
  EXPECT_EQ(Open("nested.tar")->size(), 1);
  shard.Add("._0.jpg", "x").Add("0.jpg", image).Add("._0.cls", "x").Add("0.cls", "0");
  folder_.Write("shards/0.tar", shard.Finish());
  folder_.Write("shards/._0.tar", "x");
  EXPECT_EQ(Open("shards")->size(), 1);
  const std::string record = std::string(1, '\1') + std::string(3072, 'x');
  folder_.Write("cifar/data_batch_1.bin", record);
  folder_.Write("cifar/._data_batch_1.bin", "x");
  EXPECT_EQ(Open("cifar:train")->size(), 1);
}

}  // namespace
}  // namespace convoy
