// IDX and CIFAR files.
#include <gtest/gtest.h>

#include <fstream>

#include "dataloader/dataset.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::TempFolder;

std::string Idx(const std::vector<uint32_t>& sizes, std::string_view elements, char type = 0x08) {
  std::string file{'\0', '\0', type, static_cast<char>(sizes.size())};
  for (const uint32_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(size >> shift);
  }
  return file + std::string(elements);
}

class PlainTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> Open(const std::string& location) {
    return OpenDataset(folder_ / location, {}, testing::QuietLog());
  }
  Error Refused(const std::string& location) {
    return ErrorOf([&] { Open(location); });
  }
  TempFolder folder_;
};

// Four images of 2 x 3 pixels; image i holds bytes 10 i, 10 i + 1, ...
std::string FourImages() {
  std::string pixels;
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 6; ++k) pixels += static_cast<char>(10 * i + k);
  }
  return pixels;
}

TEST_F(PlainTest, IdxIsReadPlainAndCompressed) {
  const std::string images = Idx({4, 2, 3}, FourImages());
  const std::string labels = Idx({4}, std::string("\2\0\2\1", 4));
  folder_.Write("plain/train-images-idx3-ubyte", images);
  folder_.Write("plain/train-labels-idx1-ubyte", labels);
  folder_.Write("gz/train-images-idx3-ubyte.gz", testing::Gzip(images));
  folder_.Write("gz/train-labels-idx1-ubyte.gz", testing::Gzip(labels));
  folder_.Write("plain/t10k-images.idx3-ubyte", images);
  folder_.Write("plain/t10k-labels.idx1-ubyte", labels);
  for (const char* location : {"plain:train", "gz:train", "plain:test"}) {
    SCOPED_TRACE(location);
    const auto dataset = Open(location);
    ASSERT_EQ(dataset->size(), 4);
    EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"0", "1", "2"}));
    // In the order of class/number: images 1, 3, 0, 2.
    const int expected[4] = {1, 3, 0, 2}, expected_labels[4] = {0, 1, 2, 2};
    EncodedSample sample;
    for (int64_t i = 0; i < 4; ++i) {
      dataset->Read(i, sample);
      EXPECT_EQ(sample.bytes[0], 10 * expected[i]);
      EXPECT_EQ(sample.bytes[5], 10 * expected[i] + 5);
      EXPECT_EQ(dataset->Label(i), expected_labels[i]);
      EXPECT_EQ(dataset->Name(i), fmt::format("{}/{}", expected_labels[i], expected[i]));
    }
    EXPECT_EQ(sample.height, 2);
    EXPECT_EQ(sample.width, 3);
    EXPECT_EQ(sample.channels, 1);
    EXPECT_NE(dataset->Location(0).find("at byte 22"), std::string::npos) << dataset->Location(0);
  }
  ExpectError(Refused("plain"), ExitCode::kData, {"train and test", ":train"});
  ExpectError(Refused("gz:test"), ExitCode::kData, {"t10k"});
}

TEST_F(PlainTest, TwoIdxSetsInOneFolderAreRefused) {
  for (const char* set : {"balanced", "digits"}) {
    folder_.Write(std::string("gzip/emnist-") + set + "-train-images-idx3-ubyte",
                  Idx({4, 2, 3}, FourImages()));
    folder_.Write(std::string("gzip/emnist-") + set + "-train-labels-idx1-ubyte",
                  Idx({4}, std::string("\0\0\1\1", 4)));
  }
  ExpectError(Refused("gzip:train"), ExitCode::kData, {"balanced", "digits", "two data sets"});
}

TEST_F(PlainTest, OnlyIdxFilesMakeAFolderOne) {
  // Lists whose names hold "train-images", and a text called so.
  for (const char* name : {"Cat/0.jpg", "Dog/0.jpg"}) {
    folder_.Write(std::string("lists/") + name, testing::MakeJpeg(8, 8, 1));
  }
  folder_.Write("lists/oidv6-train-images-with-labels.csv", "a,b\n");
  folder_.Write("lists/my-train-images", Idx({4, 2, 3}, FourImages()));
  folder_.Write("lists/train-images", "0.jpg\n");
  folder_.Write("lists/t10k-images-idx3-ubyte.txt", "a list");
  folder_.Write("lists/pretrain-images-idx3-ubyte", "another");
  EXPECT_EQ(Open("lists")->size(), 2);
  // Names without a form count if the content has it.
  folder_.Write("lists/train-images", Idx({4, 2, 3}, FourImages()));
  folder_.Write("lists/train-labels.gz", testing::Gzip(Idx({4}, std::string("\0\0\1\1", 4))));
  EXPECT_EQ(Open("lists:train")->size(), 4);
  // Files that macOS adds are none of them.
  folder_.Write("mac/._train-images-idx3-ubyte", "Mac OS X");
  folder_.Write("mac/._train-labels-idx1-ubyte", "Mac OS X");
  folder_.Write("mac/emnist-mnist-train-images-idx3-ubyte", Idx({4, 2, 3}, FourImages()));
  folder_.Write("mac/emnist-mnist-train-labels-idx1-ubyte", Idx({4}, std::string("\0\0\1\1", 4)));
  EXPECT_EQ(Open("mac:train")->size(), 4);
}

TEST_F(PlainTest, ALabelFarAboveTheOthersNamesItsImage) {
  const auto open = [&](const std::string& labels) {
    const auto count = static_cast<uint32_t>(labels.size());
    folder_.Write("train-images-idx3-ubyte", Idx({count, 1, 1}, labels));
    folder_.Write("train-labels-idx1-ubyte", Idx({count}, labels));
    return Open(":train");
  };
  const auto labels_of = [](int count, int first, int classes) {
    std::string labels;
    for (int i = 0; i < count; ++i) labels += static_cast<char>(first + i * 7 % classes);
    return labels;
  };
  // One unknown among few and many; and many unknown.
  for (const int count : {20, 6000}) {
    std::string labels = labels_of(count, 0, 10);
    labels[17] = '\xFF';
    ExpectError(ErrorOf([&] { open(labels); }), ExitCode::kData,
                {"train-labels-idx1-ubyte", "image 17 has label 255 (at byte 25)", "10 to 254"});
    for (int i = 0; i < count; i += 2) labels[static_cast<size_t>(i)] = '\xFF';
    ExpectError(ErrorOf([&] { open(labels); }), ExitCode::kData, {"image 0 has label 255"});
  }
  std::string near = labels_of(6000, 0, 10);
  near[5] = 12;
  ExpectError(ErrorOf([&] { open(near); }), ExitCode::kData, {"image 5 has label 12", "10 to 11"});
  // EMNIST's letters begin at 1; a small file may lack classes; a large one all of a class.
  EXPECT_EQ(open(labels_of(6000, 1, 26))->classes().size(), 27u);
  EXPECT_EQ(open(std::string("\7\2\1\0\4", 5))->classes().size(), 8u);
  std::string without_3 = labels_of(6000, 0, 10);
  for (char& label : without_3) label = label == 3 ? 4 : label;
  EXPECT_EQ(open(without_3)->classes().size(), 10u);
}

TEST_F(PlainTest, LabelsOfTwoDigitsKeepTheirOrder) {
  folder_.Write("train-images", Idx({3, 1, 1}, "abc"));
  folder_.Write("train-labels", Idx({3}, std::string("\12\2\0", 3)));  // 10, 2, 0
  const auto dataset = Open(":train");
  EXPECT_EQ(dataset->classes().size(), 11u);
  EXPECT_EQ(dataset->classes()[2], "02");
  EXPECT_EQ(dataset->Label(0), 0);
  EXPECT_EQ(dataset->Label(1), 2);
  EXPECT_EQ(dataset->Label(2), 10);
}

TEST_F(PlainTest, MalformedIdxIsRefusedBeforeAnythingIsAllocated) {
  const std::string labels = Idx({4}, std::string(4, '\0'));
  const auto refused = [&](const std::string& images, const std::string& label_file) {
    folder_.Write("train-images-idx3-ubyte", images);
    folder_.Write("train-labels-idx1-ubyte", label_file);
    return Refused(":train");
  };
  const std::string good = Idx({4, 2, 3}, FourImages());
  ExpectError(refused("", labels), ExitCode::kData, {"shorter"});
  ExpectError(refused(good.substr(0, 10), labels), ExitCode::kData, {"shorter"});
  ExpectError(refused(good.substr(0, 30), labels), ExitCode::kData, {"24 elements"});
  ExpectError(refused(good + "x", labels), ExitCode::kData, {"more than"});
  ExpectError(refused(Idx({4, 2, 3}, FourImages(), 0x0D), labels), ExitCode::kData, {"magic"});
  ExpectError(refused(Idx({4, 6}, FourImages()), labels), ExitCode::kData, {"magic"});
  ExpectError(refused(Idx({0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, "x"), labels), ExitCode::kData,
              {"overflow"});
  ExpectError(refused(Idx({0x7FFFFFFF, 0x7FFFFFFF, 1}, "x"), labels), ExitCode::kData,
              {"can be in the file"});
  ExpectError(refused(testing::Gzip(Idx({0x7FFFFFFF, 0x7FFFFFFF, 1}, "x")), labels),
              ExitCode::kData, {"can be in the file"});
  ExpectError(refused(Idx({4, 0, 3}, ""), labels), ExitCode::kData, {"pixels"});
  ExpectError(refused(Idx({0, 2, 3}, ""), Idx({0}, "")), ExitCode::kData, {"no image"});
  ExpectError(refused(good, Idx({3}, "abc")), ExitCode::kData, {"4 images", "3 labels"});
  ExpectError(refused(good, Idx({4, 1}, "abcd")), ExitCode::kData, {"magic"});
  const std::string gzip = testing::Gzip(good);
  for (const size_t bytes : {gzip.size() / 2, gzip.size() - 6}) {
    ExpectError(refused(gzip.substr(0, bytes), labels), ExitCode::kData, {"train-images"});
  }
  std::string damaged = gzip;
  damaged[damaged.size() - 7] ^= 1;  // its checksum
  ExpectError(refused(damaged, labels), ExitCode::kData, {"gzip"});
}

TEST_F(PlainTest, FashionMnistIsRead) {
  const std::string path = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs " << path;
  const auto dataset = OpenDataset(path + ":test", {}, testing::QuietLog());
  EXPECT_EQ(dataset->size(), 10000);
  EXPECT_EQ(dataset->classes().size(), 10u);
  for (int64_t i = 0; i < 10000; ++i) ASSERT_EQ(dataset->Label(i), i / 1000);
}

// Record i: label i % classes, red i, green i + 1, blue i + 2.
std::string Cifar(int records, int classes, bool coarse) {
  std::string file;
  for (int i = 0; i < records; ++i) {
    if (coarse) file += '\7';
    file += static_cast<char>(i % classes);
    for (int c = 0; c < 3; ++c) file += std::string(1024, static_cast<char>(i + c));
  }
  return file;
}

TEST_F(PlainTest, CifarIsReadInBothForms) {
  folder_.Write("ten/data_batch_1.bin", Cifar(12, 10, false));
  folder_.Write("ten/data_batch_2.bin", Cifar(5, 10, false));
  folder_.Write("ten/test_batch.bin", Cifar(3, 10, false));
  folder_.Write("ten/batches.meta.txt",
                "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
  folder_.Write("hundred/train.bin", Cifar(120, 100, true));
  const auto ten = Open("ten:train");
  EXPECT_EQ(ten->size(), 17);
  EXPECT_EQ(ten->classes()[2], "bird");
  EXPECT_EQ(ten->Name(0), "airplane/00");
  EXPECT_EQ(ten->Label(16), 9);
  EncodedSample sample;
  ten->Read(0, sample);
  EXPECT_EQ(sample.height, 32);
  EXPECT_EQ(sample.channels, 3);
  EXPECT_EQ(std::vector<uint8_t>(sample.bytes.begin(), sample.bytes.begin() + 4),
            (std::vector<uint8_t>{0, 1, 2, 0}));
  // The third image of airplane is the first of the second file.
  EXPECT_EQ(ten->Location(2), (folder_ / "ten/data_batch_2.bin") + " at byte 0");
  EXPECT_EQ(Open("ten:test")->size(), 3);

  const auto hundred = Open("hundred:train");
  EXPECT_EQ(hundred->size(), 120);
  EXPECT_EQ(hundred->classes().size(), 100u);
  EXPECT_EQ(hundred->classes()[7], "07");
  EXPECT_EQ(hundred->Label(0), 0);
  EXPECT_EQ(hundred->Label(119), 99);
  ExpectError(Refused("hundred:test"), ExitCode::kData, {"no test file"});
  ExpectError(Refused("ten"), ExitCode::kData, {"train and test"});
}

TEST_F(PlainTest, MalformedCifarIsRefused) {
  folder_.Write("cut/data_batch_1.bin", Cifar(3, 10, false).substr(0, 5000));
  ExpectError(Refused("cut:train"), ExitCode::kData, {"5000 bytes", "3073"});
  folder_.Write("label/data_batch_1.bin", Cifar(12, 12, false));
  ExpectError(Refused("label:train"), ExitCode::kData, {"byte 30730", "label 10", "at most 9"});
  folder_.Write("empty/train.bin", "");
  ExpectError(Refused("empty:train"), ExitCode::kData, {"0 bytes"});
}

}  // namespace
}  // namespace convoy
