// Splits of tars in one folder, recognised by names, and splits of folders.
#include "dataloader/sources/shard_splits.h"

#include <gtest/gtest.h>

#include "dataloader/dataset.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ExpectError;
using testing::TarMaker;

TEST(ShardSplits, AreReadFromNames) {
  for (const char* name :
       {"train-0000.tar", "imagenet1k-train-0000.tar", "a/b/x_train_000-of-100.tar", "train.tar",
        "Training.tar", "ILSVRC2012_img_train.tar", "train0001.tar"}) {
    EXPECT_EQ(SplitOfShard(name), "train") << name;
  }
  for (const char* name : {"val_00.tar", "imagenet1k-validation-63.tar", "VALID.tar"}) {
    EXPECT_EQ(SplitOfShard(name), "val") << name;
  }
  EXPECT_EQ(SplitOfShard("ILSVRC2012_img_test_v10102019.tar"), "test");
  for (const char* name : {"0000.tar", "n01440764.tar", "train_station.tar", "test tube.tar",
                           "shard-000001.tar", "latest-1.tar", "x.train.tar", ""}) {
    EXPECT_EQ(SplitOfShard(name), "") << name;
  }
}

TEST(ShardSplits, AreNoneAmongClassesWithSuchNames) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(SplitsOfShards({"bus.tar", "train.tar", "bullet_train.tar"}), Names{});
  EXPECT_EQ(SplitsOfShards({"bus.tar", "speed_test.tar"}), Names{});
  EXPECT_EQ(SplitsOfShards({"0.tar", "1.tar"}), Names{});
  EXPECT_EQ(SplitsOfShards({"0.tar", "val-0.tar"}), (Names{"", "val"}));
  EXPECT_EQ(SplitsOfShards({"x-train-0.tar", "x-train-1.tar"}), Names{"train"});
  EXPECT_EQ(SplitsOfShards({"train.tar", "validation.tar"}), (Names{"train", "val"}));
}

TEST(MissingShards, AreNamedByTheirNumbers) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(FirstMissingShard(Names{"a/x-0000.tar", "a/x-0001.tar", "a/x-0003.tar"}), "x-0002.tar");
  EXPECT_EQ(FirstMissingShard(Names{"8.tar", "9.tar", "10.tar", "12.tar"}), "11.tar");
  EXPECT_EQ(FirstMissingShard(Names{"x-0-of-3.tar", "x-1-of-3.tar"}), "x-2-of-3.tar");
  EXPECT_EQ(FirstMissingShard(Names{"x-00002-of-00003.tar", "x-00003-of-00003.tar"}),
            "x-00001-of-00003.tar");
  for (const Names& names :
       {Names{"x-0000.tar", "x-0001.tar"}, Names{"5.tar", "6.tar"}, Names{"x-1-of-1.tar"}, Names{},
        Names{"n01440764.tar", "n01443537.tar"}, Names{"x-0.tar", "y-2.tar"}, Names{"cat.tar"},
        Names{"x-0.tar", "x-2.tar", "x-dog.tar"}, Names{"99999999999999999999.tar"}}) {
    EXPECT_EQ(FirstMissingShard(names), "");
  }
}

class ShardFolderTest : public testing::DatasetFolderTest {
 protected:
  void WriteShard(const std::string& name, int images) {
    TarMaker tar;
    for (int i = 0; i < images; ++i) {
      tar.Add(fmt::format("{}.jpg", i), testing::MakeJpeg(8, 8, 1))
          .Add(fmt::format("{}.cls", i), "0");
    }
    folder_.Write(name, tar.Finish());
  }
};

TEST_F(ShardFolderTest, SplitsInOneFolderMustBeNamed) {
  WriteShard("wds/imagenet1k-train-0000.tar", 3);
  WriteShard("wds/imagenet1k-train-0001.tar", 3);
  WriteShard("wds/imagenet1k-validation-00.tar", 2);
  ExpectError(Refused("wds"), ExitCode::kData, {"several splits", "train", "val", "wds:train"});
  for (int again = 0; again < 2; ++again) {  // from the indexes, which are not each other's
    EXPECT_EQ(Open("wds:train")->size(), 6);
    for (const char* name : {"wds:val", "wds:validation", "wds:valid", "wds:Validation"}) {
      EXPECT_EQ(Open(name)->size(), 2) << name;
    }
  }
  ExpectError(Refused("wds:test"), ExitCode::kData, {"no split test", "train, val"});
  // Only what may be a part of the split must be a tar.
  folder_.Write("wds/devkit.tar.gz", testing::Gzip("x"));
  EXPECT_EQ(Open("wds:train")->left_out().Listing(), "1 .gz");
  folder_.Write("wds/imagenet1k-train-0002.tar", "");
  ExpectError(Refused("wds:train"), ExitCode::kData, {"train-0002.tar", "empty"});
  EXPECT_EQ(Open("wds:val")->size(), 2);
}

TEST_F(ShardFolderTest, OneSplitNeedsNoName) {
  WriteShard("wds/x-train-0.tar", 1);
  WriteShard("wds/x-train-1.tar", 1);
  EXPECT_EQ(Open("wds")->size(), 2);
  EXPECT_EQ(Open("wds:train")->size(), 2);
  EXPECT_EQ(Refused("wds:val").exit_code(), ExitCode::kData);
}

}  // namespace
}  // namespace convoy
