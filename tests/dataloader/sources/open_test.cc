#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "dataloader/dataset.h"
#include "dataloader/dataset_view.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using testing::ErrorOf;
using testing::ExpectError;
using testing::TarMaker;
using testing::TempFolder;

// Small images in classes: "n01/b.JPEG" -> bytes. "n-1" sorts before "n01" but "n-1/" and "n/" do
// not sort as "n-1" and "n".
using Images = std::map<std::string, std::string>;
Images TestImages() {
  Images images;
  uint32_t seed = 0;
  for (const char* name : {"n02/z.JPEG", "n02/a.JPEG", "n01/10.JPEG", "n01/1.JPEG", "n01/9.JPEG",
                           "n/q.JPEG", "n-1/p.JPEG", "n02/k.png"}) {
    images[name] = testing::MakeJpeg(20, 16, ++seed);
  }
  return images;
}

std::string FlatTar(const Images& images, const std::string& prefix) {
  TarMaker tar;
  for (auto image = images.rbegin(); image != images.rend(); ++image) {
    tar.Add(prefix + image->first, image->second);
  }
  return tar.Finish();
}

std::string NestedTar(const Images& images, const std::string& prefix = "") {
  std::map<std::string, TarMaker> classes;
  for (const auto& [name, bytes] : images) {
    classes[name.substr(0, name.find('/'))].Add(name.substr(name.find('/') + 1), bytes);
  }
  TarMaker outer;
  for (auto entry = classes.rbegin(); entry != classes.rend(); ++entry) {
    outer.Add(prefix + entry->first + ".tar", entry->second.Finish());
  }
  return outer.Finish();
}

// Returns what depends only on the samples of a data set.
std::string Content(const Dataset& dataset) {
  std::string text;
  for (const std::string& name : dataset.classes()) text += name + ",";
  EncodedSample sample;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    dataset.Read(i, sample);
    text += fmt::format("\n{} {} {}", dataset.Name(i), dataset.Label(i),
                        std::string(sample.bytes.begin(), sample.bytes.end()));
  }
  return text;
}

class OpenDatasetTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> Open(const std::string& location, const std::string& devkit = "") {
    return OpenDataset(location, {.devkit = devkit, .index_folder = folder_ / "index"},
                       testing::QuietLog());
  }
  Error Refused(const std::string& location, const std::string& devkit = "") {
    return ErrorOf([&] { Open(location, devkit); });
  }
  void WriteFolder(const std::string& root, const Images& images) {
    for (const auto& [name, bytes] : images) folder_.Write(root + "/" + name, bytes);
  }

  TempFolder folder_;
};

TEST_F(OpenDatasetTest, EveryFormOfTheSameImagesIsTheSameDataset) {
  const Images images = TestImages();
  WriteFolder("plain", images);
  folder_.Write("plain/README.txt", "not an image");
  folder_.Write("plain/.hidden/x.JPEG", "");
  WriteFolder("split/train", images);
  WriteFolder("split/val", {{"n01/v.JPEG", testing::MakeJpeg(9, 9, 1)}});
  folder_.Write("flat", FlatTar(images, ""));
  folder_.Write("dotted", FlatTar(images, "./"));
  folder_.Write("one_split", FlatTar(images, "train/"));
  folder_.Write("deep", FlatTar(images, "set/v1/train/"));
  Images both;
  for (const auto& [name, bytes] : images) both["train/" + name] = bytes;
  both["val/n01/v.JPEG"] = testing::MakeJpeg(9, 9, 1);
  folder_.Write("two_splits", FlatTar(both, "leading/"));
  folder_.Write("nested", NestedTar(images));
  folder_.Write("nested_deep", NestedTar(images, "ILSVRC2012_img_train/"));
  for (const char* name : {"n", "n-1", "n01", "n02"}) {
    TarMaker tar;
    for (const auto& [path, bytes] : images) {
      if (path.starts_with(std::string(name) + "/"))
        tar.Add(path.substr(path.find('/') + 1), bytes);
    }
    folder_.Write("class_tars/" + std::string(name) + ".tar", tar.Finish());
  }

  const auto expected = Open(folder_ / "plain");
  EXPECT_EQ(expected->size(), 8);
  EXPECT_EQ(expected->classes(), (std::vector<std::string>{"n", "n-1", "n01", "n02"}));
  EXPECT_EQ(expected->Name(0), "n-1/p.JPEG") << "identity is the rank of class/file in bytes";
  EXPECT_EQ(expected->Label(0), 1) << "labels are the rank of the class";
  EXPECT_EQ(expected->Name(2), "n01/1.JPEG");
  for (const char* location :
       {"split:train", "flat", "dotted", "one_split", "one_split:train", "deep", "deep:train",
        "two_splits:train", "nested", "nested_deep", "class_tars"}) {
    SCOPED_TRACE(location);
    EXPECT_EQ(Content(*Open(folder_ / location)), Content(*expected));
    EXPECT_EQ(Content(*Open(folder_ / location)), Content(*expected)) << "from the index";
  }
  EXPECT_EQ(Open(folder_ / "two_splits:val")->size(), 1);
}

TEST_F(OpenDatasetTest, DescribesAndLocatesSamples) {
  folder_.Write("nested", NestedTar({{"n01/a.JPEG", testing::MakeJpeg(8, 8, 1)}}));
  const auto dataset = Open(folder_ / "nested");
  EXPECT_EQ(dataset->Describe(), "tar of tars " + (folder_ / "nested") + ": 1 images in 1 classes");
  EXPECT_EQ(dataset->Location(0), (folder_ / "nested") + " at byte 1024");
}

TEST_F(OpenDatasetTest, APathWithAColonIsTakenAsItIs) {
  WriteFolder("a:b", TestImages());
  EXPECT_EQ(Open(folder_ / "a:b")->size(), 8);
}

TEST_F(OpenDatasetTest, ShardsAreReadFromOneTarOrAFolderOfThem) {
  TarMaker first, second;
  first.Add("train/000.jpg", testing::MakeJpeg(8, 8, 1)).Add("train/000.cls", "2");
  first.Add("train/001.cls", "0\n").Add("train/001.json", "{}");
  first.Add("train/001.jpeg", testing::MakeJpeg(8, 8, 2));
  second.Add("train/002.png", testing::MakePng(testing::TestPixels(4, 4, 3, 1), 4, 4, 3));
  second.Add("train/002.cls", "10");
  folder_.Write("shards/000000.tar", first.Finish());
  folder_.Write("shards/000001.tar", second.Finish());
  const auto dataset = Open(folder_ / "shards");
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->classes().size(), 11u) << "labels without images keep their number";
  EXPECT_EQ(dataset->Label(0), 0);
  EXPECT_EQ(dataset->Name(0), "00/train/001.jpeg");
  EXPECT_EQ(dataset->Label(1), 2);
  EXPECT_EQ(dataset->Label(2), 10);
  EncodedSample sample;
  dataset->Read(2, sample);
  EXPECT_EQ(sample.bytes[1], 'P');
  EXPECT_EQ(Open(folder_ / "shards/000000.tar")->size(), 2);
}

TEST_F(OpenDatasetTest, FoldersInsideOfShardsAreNoClasses) {
  TarMaker maker;
  for (const char* folder : {"train/", "2024-05/", "3/", "00000/"}) maker.Add(folder, "", '5');
  maker.Add("train/0.jpg", testing::MakeJpeg(8, 8, 1)).Add("train/0.cls", "3");
  folder_.Write("shard.tar", maker.Finish());
  const auto dataset = Open(folder_ / "shard.tar");
  EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"0", "1", "2", "3"}));
  EXPECT_EQ(dataset->Label(0), 3);
}

TEST_F(OpenDatasetTest, ShardsWithoutAPartnerOrWithAWrongLabelAreRefused) {
  const std::string image = testing::MakeJpeg(8, 8, 1);
  folder_.Write("alone.tar",
                TarMaker().Add("a.jpg", image).Add("a.cls", "1").Add("b.cls", "1").Finish());
  ExpectError(Refused(folder_ / "alone.tar"), ExitCode::kData, {"alone.tar", "b.cls", "byte"});
  folder_.Write("mixed.tar",
                TarMaker().Add("a.jpg", image).Add("a.cls", "1").Add("b.jpg", image).Finish());
  ExpectError(Refused(folder_ / "mixed.tar"), ExitCode::kData, {"b.jpg"});
  for (const char* label : {"", "-1", "dog", "1 2", "999999999"}) {
    folder_.Write("label.tar", TarMaker().Add("a.jpg", image).Add("a.cls", label).Finish());
    ExpectError(Refused(folder_ / "label.tar"), ExitCode::kData, {"a.cls", "byte"});
  }
}

TEST_F(OpenDatasetTest, MissingPathsAndSplitsAreNamed) {
  WriteFolder("split/train", TestImages());
  WriteFolder("split/val", TestImages());
  folder_.Write("flat.tar", FlatTar(TestImages(), ""));
  ExpectError(Refused("/no/such/path"), ExitCode::kData, {"/no/such/path"});
  ExpectError(Refused("/no/such/path:train"), ExitCode::kData, {"/no/such/path:train"});
  ExpectError(Refused(folder_ / "split"), ExitCode::kData,
              {"several splits: train, val", ":train"});
  ExpectError(Refused(folder_ / "split:test"), ExitCode::kData, {"no split test", "train, val"});
  ExpectError(Refused(folder_ / "flat.tar:train"), ExitCode::kData, {"no splits"});
  ExpectError(Refused(""), ExitCode::kUsage, {});
}

TEST_F(OpenDatasetTest, EmptyClassesAreNamed) {
  WriteFolder("plain", TestImages());
  fs::create_directories(folder_ / "plain/n09");
  ExpectError(Refused(folder_ / "plain"), ExitCode::kData, {"n09", "no image"});
  folder_.Write("plain/n09/readme.txt", "x");
  ExpectError(Refused(folder_ / "plain"), ExitCode::kData, {"n09"});
  fs::create_directories(folder_ / "nothing");
  ExpectError(Refused(folder_ / "nothing"), ExitCode::kData, {"no image"});
  fs::create_directories(folder_ / "only/n01");
  ExpectError(Refused(folder_ / "only"), ExitCode::kData, {"n01", "no image"});
  folder_.Write("flat.tar", TarMaker().Add("n01/a.jpg", "x").Add("n02/", "", '5').Finish());
  ExpectError(Refused(folder_ / "flat.tar"), ExitCode::kData, {"n02"});
  folder_.Write("nested.tar", TarMaker()
                                  .Add("n01.tar", TarMaker().Add("a.jpg", "x").Finish())
                                  .Add("n02.tar", TarMaker().Add("a.txt", "x").Finish())
                                  .Finish());
  ExpectError(Refused(folder_ / "nested.tar"), ExitCode::kData, {"n02"});
}

TEST_F(OpenDatasetTest, EmptyClassFoldersMayBeLeftOut) {
  const DatasetOptions options{.empty_classes = EmptyClasses::kLeftOut};
  folder_.Write("set/val/n01/a.jpg", "x");
  folder_.Write("set/val/n03/b.jpg", "x");
  fs::create_directories(folder_ / "set/val/n02");
  fs::create_directories(folder_ / "set/train/n01");
  folder_.Write(
      "flat.tar",
      TarMaker().Add("n01/a.jpg", "x").Add("n02/", "", '5').Add("n03/b.jpg", "x").Finish());
  for (const char* name : {"set:val", "set/val", "flat.tar"}) {
    const auto dataset = OpenDataset(folder_ / name, options, testing::QuietLog());
    EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"n01", "n03"}));
    ASSERT_EQ(dataset->size(), 2);
    EXPECT_EQ(dataset->Label(1), 1);
    EXPECT_EQ(dataset->Name(1), "n03/b.jpg");
  }
  const auto refused = [&](const std::string& name) {
    return ErrorOf([&] { OpenDataset(folder_ / name, options, testing::QuietLog()); });
  };
  // A split without images is no empty class.
  ExpectError(refused("set"), ExitCode::kData, {"several splits: train, val", "set:val"});
  ExpectError(refused("set/train"), ExitCode::kData, {"no image"});
  folder_.Write("set/val/n02/c.webp", "x");
  ExpectError(refused("set:val"), ExitCode::kData, {"n02", ".webp"});
}

TEST_F(OpenDatasetTest, UnexpectedLayoutsSayWhatWasFound) {
  folder_.Write("loose/a.jpg", "x");
  ExpectError(Refused(folder_ / "loose"), ExitCode::kData, {"a.jpg", "without class folders"});
  folder_.Write("uneven/n01/a.jpg", "x");
  folder_.Write("uneven/n02/deeper/b.jpg", "x");
  ExpectError(Refused(folder_ / "uneven"), ExitCode::kData, {"n01", "n02/deeper"});
  folder_.Write("texts/readme.md", "x");
  ExpectError(Refused(folder_ / "texts"), ExitCode::kData, {"readme.md"});
  ExpectError(Refused(folder_.Write("file.jpg", testing::MakeJpeg(8, 8, 1))), ExitCode::kData,
              {"JPEG"});
  ExpectError(Refused(folder_.Write("a.tar.gz", testing::Gzip(FlatTar(TestImages(), "")))),
              ExitCode::kData, {"gzip"});
  folder_.Write("mixed.tar", TarMaker()
                                 .Add("n01.tar", TarMaker().Add("a.jpg", "x").Finish())
                                 .Add("n02/a.jpg", "x")
                                 .Finish());
  ExpectError(Refused(folder_ / "mixed.tar"), ExitCode::kData, {"mixed.tar"});
  folder_.Write("inner.tar",
                TarMaker().Add("n01.tar", TarMaker().Add("x/a.jpg", "x").Finish()).Finish());
  ExpectError(Refused(folder_ / "inner.tar"), ExitCode::kData, {"x/a.jpg", "no folders"});
  folder_.Write("twice.tar", TarMaker().Add("n01/a.jpg", "x").Add("n01/a.jpg", "y").Finish());
  ExpectError(Refused(folder_ / "twice.tar"), ExitCode::kData,
              {"n01/a.jpg", "twice", "512", "1536"});
  folder_.Write("official/train.tar", NestedTar(TestImages()));
  folder_.Write("official/val.tar", TarMaker().Add("ILSVRC2012_val_00000001.JPEG", "x").Finish());
  ExpectError(Refused(folder_ / "official"), ExitCode::kData, {"train.tar"});
}

TEST_F(OpenDatasetTest, ImagesForPredictionsAreFoundBelowFoldersAndKeepTheirOrder) {
  WriteFolder("images", TestImages());
  const std::string single = folder_.Write("single.bin", testing::MakeJpeg(8, 8, 1));
  const auto dataset = OpenImages({single, folder_ / "images"});
  EXPECT_EQ(dataset->size(), 9);
  EXPECT_EQ(dataset->Name(0), single);
  EXPECT_EQ(dataset->Name(1), folder_ / "images/n-1/p.JPEG");
  EXPECT_EQ(dataset->Label(3), -1);
  EXPECT_TRUE(dataset->classes().empty());
  ExpectError(ErrorOf([&] { OpenImages({folder_ / "none"}); }), ExitCode::kData, {"none"});
  fs::create_directories(folder_ / "empty");
  ExpectError(ErrorOf([&] { OpenImages({folder_ / "empty"}); }), ExitCode::kData, {"empty"});
}

TEST_F(OpenDatasetTest, UnlabelledTestImagesAreRead) {
  folder_.Write("test.tar", TarMaker()
                                .Add("test/ILSVRC2012_test_00000002.JPEG", "b")
                                .Add("test/ILSVRC2012_test_00000001.JPEG", "a")
                                .Finish());
  const auto dataset = Open(folder_ / "test.tar");
  EXPECT_EQ(dataset->size(), 2);
  EXPECT_EQ(dataset->Name(0), "test/ILSVRC2012_test_00000001.JPEG");
  EXPECT_EQ(dataset->Label(0), -1);
}

TEST_F(OpenDatasetTest, SyntheticImagesAreTheSameEveryTimeAndHaveTheSizeAskedFor) {
  const auto dataset = Open("synthetic:50x7");
  EXPECT_EQ(dataset->size(), 50);
  EXPECT_EQ(dataset->classes().size(), 7u);
  EncodedSample a, b;
  dataset->ReadForSide(3, 28, a);
  Open("synthetic:50x7")->ReadForSide(3, 28, b);
  EXPECT_EQ(a.height, 28);
  EXPECT_EQ(a.bytes.size(), 28u * 28u * 3u);
  EXPECT_EQ(a.bytes, b.bytes);
  dataset->ReadForSide(4, 28, b);
  EXPECT_NE(a.bytes, b.bytes);
  SplitByName(dataset, 0.5).training->ReadForSide(0, 28, b);
  EXPECT_EQ(b.height, 28) << "through a view";
  dataset->Read(3, b);
  EXPECT_EQ(b.height, 256);
  EXPECT_EQ(Open("synthetic:10")->classes().size(), 1000u);
  for (const char* wrong : {"synthetic:", "synthetic:x", "synthetic:0", "synthetic:5x0",
                            "synthetic:-5", "synthetic:5x5x5"}) {
    EXPECT_EQ(Refused(wrong).exit_code(), ExitCode::kUsage) << wrong;
  }
}

// --- The index -----------------------------------------------------------------------------------

TEST_F(OpenDatasetTest, TheIndexIsUsedWhileItIsRightAndMadeAgainOtherwise) {
  const std::string path = folder_.Write("data.tar", FlatTar(TestImages(), ""));
  const std::string expected = Content(*Open(path));
  const auto index = [&] {
    for (const auto& entry : fs::directory_iterator(folder_ / "index"))
      return entry.path().string();
    return std::string();
  };
  ASSERT_NE(index(), "");
  const std::string kept = testing::ReadFile(index());

  // Damage anywhere is noticed, and the index made again.
  for (size_t at = 0; at < kept.size(); at += 41) {
    std::string damaged = kept;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
    folder_.Write("index/" + fs::path(index()).filename().string(), damaged);
    ASSERT_EQ(Content(*Open(path)), expected) << at;
  }
  for (const size_t bytes : {size_t{0}, size_t{10}, kept.size() / 2, kept.size() - 1}) {
    folder_.Write("index/" + fs::path(index()).filename().string(), kept.substr(0, bytes));
    ASSERT_EQ(Content(*Open(path)), expected) << bytes;
  }
  EXPECT_EQ(testing::ReadFile(index()), kept);

  // An archive of another time, size or content is another archive.
  Images other = TestImages();
  other.erase(other.begin());
  folder_.Write("data.tar", FlatTar(other, ""));
  EXPECT_EQ(Open(path)->size(), 7);
  const auto time = fs::last_write_time(path);
  std::string archive = testing::ReadFile(path);
  // The last header is damaged, with the old size and time: only the sampled headers show it.
  archive[archive.rfind("n/q.JPEG")] = 'm';
  folder_.Write("data.tar", archive);
  fs::last_write_time(path, time);
  ExpectError(Refused(path), ExitCode::kData, {"checksum"});
}

TEST_F(OpenDatasetTest, TheIndexLiesBesideItsArchiveByDefault) {
  const std::string path = folder_.Write("data.tar", FlatTar(TestImages(), ""));
  OpenDataset(path, {}, testing::QuietLog());
  EXPECT_TRUE(fs::exists(path + ".convoy-index"));
  // A folder of shards does not take the index for one of them.
  folder_.Write("shards/0.tar", TarMaker().Add("a.jpg", "x").Add("a.cls", "0").Finish());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(OpenDataset(folder_ / "shards", {}, testing::QuietLog())->size(), 1);
  }
}

TEST_F(OpenDatasetTest, AFolderThatCannotHoldTheIndexIsNoError) {
  const std::string path = folder_.Write("data.tar", FlatTar(TestImages(), ""));
  const std::string file = folder_.Write("file", "");
  EXPECT_EQ(OpenDataset(path, {.index_folder = file + "/below"}, testing::QuietLog())->size(), 8);
}

}  // namespace
}  // namespace convoy
