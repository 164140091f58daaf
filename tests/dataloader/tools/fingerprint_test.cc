#include "dataloader/fingerprint.h"

#include <gtest/gtest.h>

#include "tests/dataloader/support.h"

namespace convoy {
namespace {

Fingerprint Of(const testing::TempFolder& folder, const std::string& location) {
  const auto dataset = OpenDataset(location.starts_with("synthetic") ? location : folder / location,
                                   {.index_folder = folder / "index"}, testing::QuietLog());
  return FingerprintOf(*dataset);
}

TEST(Fingerprint, IsThatOfACopyInAnyFormAndOfNoOtherSet) {
  const testing::TempFolder folder;
  testing::TarMaker tar;
  for (const char* name : {"cat/1.jpg", "cat/2.jpg", "dog/1.jpg"}) {
    tar.Add(name, "some bytes");
    for (const char* copy : {"a/", "b/", "renamed/", "longer/", "fewer/"}) {
      folder.Write(std::string(copy) + name, "some bytes");
    }
  }
  folder.Write("a.tar", tar.Finish());
  std::filesystem::rename(folder / "renamed/cat/2.jpg", folder / "renamed/cat/3.jpg");
  folder.Write("longer/dog/1.jpg", "some more bytes");
  std::filesystem::remove(folder / "fewer/cat/2.jpg");
  const Fingerprint expected = Of(folder, "a");
  EXPECT_EQ(expected.images, 3);
  EXPECT_EQ(Of(folder, "b"), expected);
  EXPECT_EQ(Of(folder, "a.tar"), expected);
  EXPECT_NE(Of(folder, "renamed").names, expected.names);
  EXPECT_EQ(Of(folder, "longer").names, expected.names);
  EXPECT_NE(Of(folder, "longer").contents, expected.contents);
  EXPECT_EQ(Of(folder, "fewer").images, 2);
}

TEST(Fingerprint, OfPixelsIsOfTheirValuesAndOfEndlessNoiseIsCheap) {
  const testing::TempFolder folder;
  const auto write = [&](const std::string& name, char pixel) {
    using namespace std::string_literals;
    folder.Write(name + "/train-images-idx3-ubyte",
                 "\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x01"s + "a" + pixel);
    folder.Write(name + "/train-labels-idx1-ubyte", "\0\0\x08\x01\0\0\0\x02\0\x01"s);
  };
  write("a", 'b');
  write("b", 'b');
  write("c", 'c');
  EXPECT_EQ(Of(folder, "a:train"), Of(folder, "b:train"));
  EXPECT_NE(Of(folder, "a:train").contents, Of(folder, "c:train").contents);
  EXPECT_EQ(Of(folder, "synthetic:10000000000"), Of(folder, "synthetic:10000000000"));
}

}  // namespace
}  // namespace convoy
