#include "trainer/checkpoint/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "tests/temporary_folder.h"

namespace convoy {
namespace {

class SafetensorsTest : public ::testing::Test {
 protected:
  // Two tensors of a few values each, and one without any.
  void SetUp() override {
    SafetensorsWriter writer(path_,
                             {{"a", DType::kFloat32, Shape{2, 3}},
                              {"nothing", DType::kFloat32, Shape{0}},
                              {"b", DType::kFloat64, Shape{2}}},
                             {{"key", "value"}});
    writer.Write(a_, 8);
    writer.Write(a_ + 2, 16);
    writer.Write(b_, 16);
    writer.Commit();
  }

  std::string Bytes() const { return ReadText(path_, ExitCode::kDisk); }
  void Replace(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  // The message with which opening and checking the file fails; empty when it does not.
  std::string Complaint() const {
    try {
      SafetensorsReader(path_).VerifyChecksums();
      return {};
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kCheckpoint) << error.what();
      return error.what();
    }
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.Path("x.safetensors");
  float a_[6] = {1, 2, 3, 4, 5, 6};
  double b_[2] = {7, 8};
};

TEST_F(SafetensorsTest, WhatWasWrittenIsRead) {
  const SafetensorsReader reader(path_);
  ASSERT_EQ(reader.entries().size(), 3u);
  EXPECT_EQ(reader.metadata().at("key"), "value");
  const SafetensorsEntry* a = reader.Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (Shape{2, 3}));
  float values[4];
  reader.Read(*a, 8, values, 16);
  EXPECT_EQ(values[0], 3);
  EXPECT_EQ(values[3], 6);
  EXPECT_EQ(reader.Find("b")->offset % 8, 0);
  EXPECT_EQ(reader.Find("c"), nullptr);
  EXPECT_EQ(Complaint(), "");
}

// The layout that the format's own documentation describes, read without this reader.
TEST_F(SafetensorsTest, TheFileIsALengthThenJsonThenTheBytes) {
  const std::string bytes = Bytes();
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const std::string header = bytes.substr(8, length);
  EXPECT_EQ(header[0], '{');
  EXPECT_NE(header.find(R"("a":{"data_offsets":[0,24],"dtype":"F32","shape":[2,3]})"),
            std::string::npos)
      << header;
  EXPECT_EQ(bytes.size(), 8 + length + 40);
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + length, a_, 24), 0);
  EXPECT_EQ((8 + length) % 64, 0u);
}

TEST_F(SafetensorsTest, EveryFlippedBitIsFound) {
  const std::string good = Bytes();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 4);
    Replace(bad);
    EXPECT_NE(Complaint(), "") << "byte " << i;
  }
}

TEST_F(SafetensorsTest, EveryTruncationIsFound) {
  const std::string good = Bytes();
  for (size_t size = 0; size < good.size(); ++size) {
    Replace(good.substr(0, size));
    EXPECT_NE(Complaint(), "") << size << " bytes";
  }
  Replace(good.substr(0, good.size() - 1));
  EXPECT_NE(
      Complaint().find(fmt::format("expected {} bytes, found {}", good.size(), good.size() - 1)),
      std::string::npos)
      << Complaint();
  Replace(good + "x");
  EXPECT_NE(Complaint(), "");
}

TEST_F(SafetensorsTest, AFlippedBitIsNamedByTensorAndPlace) {
  std::string bytes = Bytes();
  bytes[bytes.size() - 1] ^= 1;
  Replace(bytes);
  EXPECT_NE(Complaint().find("tensor b at byte"), std::string::npos) << Complaint();
}

TEST_F(SafetensorsTest, HeadersThatLieAreRefused) {
  const auto with_header = [](std::string header, size_t data_bytes) {
    const uint64_t length = header.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes + header + std::string(data_bytes, '\0');
  };
  for (const char* header : {
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",   // wrong length
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",   // hole
           R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})",  // negative
           R"({"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}})",
           R"({"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}})",            // type
           R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,2],"data_offsets":[0,8]}})",  // dimensions
           R"({"a":{"shape":[2],"data_offsets":[0,8]}})",                          // incomplete
           R"({"a":[]})",
           R"([1])",
           "{",
       }) {
    Replace(with_header(header, 8));
    EXPECT_NE(Complaint(), "") << header;
  }
  // Two tensors in one place.
  Replace(with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                      8));
  EXPECT_NE(Complaint(), "");
}

TEST_F(SafetensorsTest, AWriterThatIsNotCommittedLeavesTheOldFile) {
  {
    SafetensorsWriter writer(path_, {{"c", DType::kFloat32, Shape{1}}}, {});
    writer.Write(a_, 4);
  }
  EXPECT_NE(SafetensorsReader(path_).Find("a"), nullptr);
}

TEST_F(SafetensorsTest, MissingAndSurplusBytesAreDefects) {
  SafetensorsWriter missing(folder_.Path("m"), {{"c", DType::kFloat32, Shape{2}}}, {});
  missing.Write(a_, 4);
  EXPECT_THROW(missing.Commit(), Error);
  SafetensorsWriter surplus(folder_.Path("s"), {{"c", DType::kFloat32, Shape{1}}}, {});
  EXPECT_THROW(surplus.Write(a_, 8), Error);
}

}  // namespace
}  // namespace convoy
