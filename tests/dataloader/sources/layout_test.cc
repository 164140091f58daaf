// Classes and splits from folders; what hints say can be done.
#include <gtest/gtest.h>

#include "dataloader/dataset.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ExpectError;
using testing::TarMaker;

class LayoutTest : public testing::DatasetFolderTest {
 protected:
  // A folder and a tar, "NAME.tar", of images with these names.
  void Write(const std::string& root, const std::vector<std::string>& names) {
    TarMaker tar;
    for (const std::string& name : names) {
      folder_.Write(root + "/" + name, testing::MakeJpeg(8, 8, 1));
      tar.Add(name, testing::MakeJpeg(8, 8, 1));
    }
    folder_.Write(root + ".tar", tar.Finish());
  }
};

TEST_F(LayoutTest, TinyImageNetIsReadAsItIs) {
  Write("tiny", {"train/n01/images/n01_0.JPEG", "train/n01/images/n01_1.JPEG",
                 "train/n02/images/n02_0.JPEG", "val/images/val_0.JPEG", "val/images/val_1.JPEG",
                 "test/images/test_0.JPEG"});
  folder_.Write("tiny/wnids.txt", "n02\nn01\n");
  folder_.Write("tiny/train/n01/n01_boxes.txt", "n01_0.JPEG\t0\t0\t62\t62\n");
  folder_.Write("tiny/val/val_annotations.txt",
                "val_0.JPEG\tn02\t0\t0\t62\t62\nval_1.JPEG\tn01\t3\t0\t63\t59\n");
  for (const char* location : {"tiny:train", "tiny/train", "tiny.tar:train"}) {
    const auto train = Open(location);
    EXPECT_EQ(train->classes(), (std::vector<std::string>{"n01", "n02"})) << location;
    EXPECT_EQ(train->Name(0), "n01/n01_0.JPEG");
    EXPECT_EQ(train->Label(2), 1);
    EncodedSample sample;
    train->Read(2, sample);
    EXPECT_FALSE(sample.bytes.empty());
  }
  for (const char* location : {"tiny:val", "tiny/val", "tiny/val/images"}) {
    const auto val = Open(location);
    EXPECT_EQ(val->classes(), (std::vector<std::string>{"n01", "n02"})) << location;
    EXPECT_EQ(val->Name(0), "n01/val_1.JPEG");
    EncodedSample sample;
    val->Read(0, sample);
    EXPECT_FALSE(sample.bytes.empty());
  }
  for (const char* location : {"tiny", "tiny.tar"}) {
    ExpectError(Refused(location), ExitCode::kData,
                {"several splits: test, train, val", std::string(location) + ":train"});
  }
  // No class is called "images".
  for (const char* location : {"tiny/train:n01", "tiny/train/n01", "tiny:test", "tiny.tar:val"}) {
    ExpectError(Refused(location), ExitCode::kData, {"without class folders"});
  }
}

TEST_F(LayoutTest, AHintNamesASplitThatCanBeOpened) {
  Write("set", {"a/cat/0.jpg", "b/cat/0.jpg"});
  folder_.Write("set/a/dog/notes.txt", "a class without images");
  ExpectError(Refused("set"), ExitCode::kData, {"a, b", "set:b"});
  EXPECT_EQ(Open("set:b")->size(), 1);
  Write("uneven", {"train/cat/0.jpg", "train/dog/0.jpg", "val/0.jpg"});
  ExpectError(Refused("uneven"), ExitCode::kData, {"uneven:train"});
  EXPECT_EQ(Open("uneven:train")->size(), 2);
  ExpectError(Refused("uneven.tar"), ExitCode::kData, {"uneven.tar:train"});
  EXPECT_EQ(Open("uneven.tar:train")->size(), 2);
}

TEST_F(LayoutTest, SplitsOfImagesWithoutClassesAreNoClasses) {
  Write("yolo", {"train/images/0.jpg", "valid/images/0.jpg"});
  for (const char* location : {"yolo", "yolo:train", "yolo.tar"}) {
    ExpectError(Refused(location), ExitCode::kData, {"without class folders"});
  }
}

}  // namespace
}  // namespace convoy
