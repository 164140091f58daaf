#include "dataloader/images/image.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include "dataloader/archives/names.h"
#include "dataloader/images/jpeg_writer.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;

EncodedSample Encoded(std::string_view bytes) {
  return {.bytes = std::vector<uint8_t>(bytes.begin(), bytes.end())};
}

struct Decoded {
  ImageInfo info;
  int channels = 0;
  std::vector<uint8_t> pixels;  // of the window
};

// Returns the pixels of `window`, or of the whole image if it is empty.
Decoded Decode(ImageDecoder& decoder, const EncodedSample& sample, int channels,
               Window window = {}) {
  Decoded decoded;
  RowDecoder& image = decoder.Open(sample);
  decoded.info = image.info();
  if (window.x1 == 0) window = {0, 0, decoded.info.width, decoded.info.height};
  image.Start(window, channels);
  const int pixel_bytes = image.pixel_bytes();
  decoded.channels = pixel_bytes == 4 ? 3 : 1;
  std::vector<uint8_t> row(static_cast<size_t>(image.columns() * pixel_bytes));
  uint8_t* pointer = row.data();
  for (int y = window.y0; y < window.y1; ++y) {
    image.ReadRows(&pointer, 1);
    for (int x = window.x0; x < window.x1; ++x) {
      const uint8_t* pixel = row.data() + (x - image.first_column()) * pixel_bytes;
      decoded.pixels.insert(decoded.pixels.end(), pixel, pixel + decoded.channels);
    }
  }
  return decoded;
}

Decoded Decode(std::string_view bytes, int channels = 3) {
  ImageDecoder decoder;
  return Decode(decoder, Encoded(bytes), channels);
}

// Returns the mean of each channel over [x0, x1) x [y0, y1) of a decoded image.
std::vector<double> MeanOf(const Decoded& image, int x0, int y0, int x1, int y1) {
  std::vector<double> mean(3, 0);
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int channel = image.channels == 1 ? 0 : c;
        const auto pixel =
            static_cast<size_t>(y) * static_cast<size_t>(image.info.width) + static_cast<size_t>(x);
        mean[static_cast<size_t>(c)] +=
            image
                .pixels[pixel * static_cast<size_t>(image.channels) + static_cast<size_t>(channel)];
      }
    }
  }
  for (double& value : mean) value /= (x1 - x0) * (y1 - y0);
  return mean;
}

void ExpectMean(const Decoded& image, const nlohmann::json& expected, double tolerance, int x0,
                int y0, int x1, int y1) {
  const std::vector<double> mean = MeanOf(image, x0, y0, x1, y1);
  for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(mean[c], expected[c].get<double>(), tolerance);
}

// Returns the largest resident size of this process since the last reset, in bytes; 0 if it is
// unknown.
int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != "VmHWM:") continue;
    int64_t kilobytes = 0;
    status >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

TEST(ImageDecoder, TreatsEveryOddFileAsExpected) {
  CONVOY_NEED_SHARED("data/odd/expected.json");
  const auto expected =
      nlohmann::json::parse(testing::ReadFile(testing::SharedPath("data/odd/expected.json")));
  ImageDecoder decoder;
  int files = 0;
  for (const auto& entry : expected["files"]) {
    const std::string name = entry["file"], expect = entry["expect"];
    SCOPED_TRACE(name);
    ++files;
    const EncodedSample sample =
        Encoded(testing::ReadFile(testing::SharedPath("data/odd/" + name)));
    Decoded decoded;
    std::string reason;
    ResetPeak();
    const int64_t before = PeakResidentBytes();
    try {
      decoded = Decode(decoder, sample, 3);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kData);
      reason = error.message();
    }
    EXPECT_LT(PeakResidentBytes() - before, 32 << 20) << "bytes of memory for one image";
    if (expect != "either") {
      EXPECT_EQ(reason.empty(), expect == "decode") << reason;
    }
    if (!reason.empty()) continue;
    const int width = entry["width"], height = entry["height"];
    EXPECT_EQ(decoded.info.width, width);
    EXPECT_EQ(decoded.info.height, height);
    if (!entry.contains("mean_rgb")) continue;
    const double tolerance = entry["tolerance"];
    const auto& mean = entry["mean_rgb"];
    if (mean.contains("all")) {
      ExpectMean(decoded, mean["all"], tolerance, 0, 0, width, height);
    } else {
      const int x = width / 2, y = height / 2;
      ExpectMean(decoded, mean["tl"], tolerance, 0, 0, x, y);
      ExpectMean(decoded, mean["tr"], tolerance, x, 0, width, y);
      ExpectMean(decoded, mean["bl"], tolerance, 0, y, x, height);
      ExpectMean(decoded, mean["br"], tolerance, x, y, width, height);
    }
  }
  EXPECT_EQ(files, 30);
}

// Decides what expected.json leaves open.
TEST(ImageDecoder, DecidesTheOpenCases) {
  CONVOY_NEED_SHARED("data/odd/expected.json");
  const auto read = [](const std::string& name) {
    return testing::ReadFile(testing::SharedPath("data/odd/" + name));
  };
  EXPECT_NO_THROW(Decode(read("no-eoi.JPEG")));
  EXPECT_NO_THROW(Decode(read("png-named.JPEG")));
  ExpectError(ErrorOf([&] { Decode(read("truncated.JPEG")); }), ExitCode::kData, {"premature end"});
  ExpectError(ErrorOf([&] { Decode(read("twelve-bit.JPEG")); }), ExitCode::kData, {"12"});
  ExpectError(ErrorOf([&] { Decode(read("text.JPEG")); }), ExitCode::kData, {"HTML"});
  ExpectError(ErrorOf([&] { Decode(read("bomb-60000x60000.JPEG")); }), ExitCode::kData,
              {"60000 x 60000"});
}

TEST(ImageDecoder, RefusesAJpegCutAnywhere) {
  for (const bool progressive : {false, true}) {
    const std::string whole = testing::MakeJpeg(96, 80, 1, {.progressive = progressive});
    ASSERT_NO_THROW(Decode(whole));
    EXPECT_NO_THROW(Decode(whole.substr(0, progressive ? whole.size() : whole.size() - 2)));
    for (size_t bytes = 0; bytes + 40 < whole.size(); bytes += 37) {
      const Error error = ErrorOf([&] { Decode(whole.substr(0, bytes)); });
      EXPECT_EQ(error.exit_code(), ExitCode::kData) << bytes;
    }
  }
}

TEST(ImageDecoder, RefusesAProgressiveJpegWithoutItsLastScan) {
  const std::string whole = testing::MakeJpeg(96, 80, 1, {.progressive = true});
  const size_t last_scan = whole.rfind("\xFF\xDA");
  ExpectError(ErrorOf([&] { Decode(whole.substr(0, last_scan)); }), ExitCode::kData,
              {"before its last scan"});
}

TEST(ImageDecoder, IsUsableAfterAnyError) {
  ImageDecoder decoder;
  const std::string good = testing::MakeJpeg(64, 48, 3);
  const Decoded expected = Decode(decoder, Encoded(good), 3);
  const std::string png = testing::MakePng(testing::TestPixels(20, 10, 3, 1), 20, 10, 3);
  for (const std::string& bad :
       {good.substr(0, good.size() / 2), good.substr(0, 30), std::string("GIF89a"),
        png.substr(0, 60), png.substr(0, png.size() - 20)}) {
    EXPECT_THROW(Decode(decoder, Encoded(bad), 3), Error);
    EXPECT_EQ(Decode(decoder, Encoded(good), 3).pixels, expected.pixels);
  }
}

// Returns `jpeg` without its segments of one kind.
std::string Without(std::string jpeg, const std::string& marker) {
  for (size_t at = jpeg.find(marker); at != std::string::npos; at = jpeg.find(marker, at)) {
    const auto high = static_cast<uint8_t>(jpeg[at + 2]), low = static_cast<uint8_t>(jpeg[at + 3]);
    jpeg.erase(at, size_t{2} + high * 256u + low);
  }
  return jpeg;
}

// Files may lack tables. If those of the quantization are missing, the file is refused; if those of
// the Huffman codes are, the usual ones are used. The tables of the image before are never right:
// which image that is depends on the order of images.
TEST(ImageDecoder, TablesOfAnEarlierImageAreForgotten) {
  const std::vector<uint8_t> pixels = testing::TestPixels(64, 48, 3, 1);
  std::vector<uint8_t> with_own_codes;
  JpegWriter().Write(pixels.data(), 64, 48, 3, 50, with_own_codes);
  const std::string whole = testing::MakeJpeg(pixels, 64, 48, 3);
  ImageDecoder decoder;
  for (int i = 0; i < 2; ++i) {
    ASSERT_NO_THROW(Decode(decoder, {.bytes = with_own_codes}, 3));
    EXPECT_EQ(Decode(decoder, Encoded(Without(whole, "\xFF\xC4")), 3).pixels, Decode(whole).pixels);
    ExpectError(ErrorOf([&] { Decode(decoder, Encoded(Without(whole, "\xFF\xDB")), 3); }),
                ExitCode::kData, {"uantization table"});
  }
}

// A scan costs as much as an image, and the headers of a thousand of them take only 16 kB.
TEST(ImageDecoder, RefusesManyScans) {
  const std::string image = testing::MakeJpeg(64, 64, 1, {.progressive = true});
  const size_t first = image.find("\xFF\xDA"), second = image.find("\xFF\xDA", first + 2);
  const size_t table = image.rfind("\xFF\xC4", second);
  const std::string scan =
      image.substr(table > first ? table : second, image.find("\xFF\xC4", second) - table);
  std::string bomb = image.substr(0, image.size() - 2);
  for (int i = 0; i < 200; ++i) bomb += scan;
  bomb += "\xFF\xD9";
  ExpectError(ErrorOf([&] { Decode(bomb); }), ExitCode::kData, {"more than 100 scans"});
}

// The pixels are equal to libjpeg's own full decode, for every sampling and for windows at every
// place.
TEST(ImageDecoder, AWindowHasThePixelsOfTheFullDecode) {
  struct Case {
    int h, v;
    bool progressive;
  };
  for (const Case& form : {Case{1, 1, false},
                           {2, 1, false},
                           {1, 2, false},
                           {2, 2, false},
                           {4, 1, false},
                           {2, 2, true},
                           {1, 1, true},
                           {4, 2, false}}) {
    SCOPED_TRACE(fmt::format("{}x{} {}", form.h, form.v, form.progressive));
    constexpr int kWidth = 203, kHeight = 157;
    const std::string jpeg = testing::MakeJpeg(
        kWidth, kHeight, 7,
        {.h = form.h, .v = form.v, .progressive = form.progressive, .restart_rows = form.h - 1});
    const testing::DecodedJpeg whole = testing::PlainDecode(jpeg);
    const EncodedSample sample = Encoded(jpeg);
    ImageDecoder decoder;
    for (const int x0 : {0, 1, 15, 16, 17, 40, 101, 190}) {
      for (const int y0 : {0, 1, 7, 8, 15, 16, 17, 33, 64, 150}) {
        for (const int size : {1, 7, 48, 200}) {
          const Window window{x0, y0, std::min(x0 + size, kWidth), std::min(y0 + size, kHeight)};
          const Decoded part = Decode(decoder, sample, 3, window);
          std::vector<uint8_t> expected;
          for (int y = window.y0; y < window.y1; ++y) {
            const auto row = whole.pixels.begin() + (y * kWidth + window.x0) * 3;
            expected.insert(expected.end(), row, row + (window.x1 - window.x0) * 3);
          }
          ASSERT_EQ(part.pixels, expected) << "window at " << x0 << ", " << y0 << " of " << size;
        }
      }
    }
  }
}

TEST(ImageDecoder, GivesGreyFilesOneChannelAndLumaWhereOneIsAsked) {
  const std::vector<uint8_t> grey = testing::TestPixels(40, 30, 1, 2);
  const std::string jpeg = testing::MakeJpeg(grey, 40, 30, 1, {.quality = 100});
  EXPECT_EQ(Decode(jpeg, 3).channels, 1);
  EXPECT_EQ(Decode(jpeg, 1).pixels, Decode(jpeg, 3).pixels);

  const std::string colour = testing::MakeJpeg(40, 30, 5, {.quality = 100});
  const Decoded luma = Decode(colour, 1), rgb = Decode(colour, 3);
  ASSERT_EQ(luma.channels, 1);
  for (size_t i = 0; i < luma.pixels.size(); ++i) {
    // The stored luma was rounded, and so was each of R, G, B made from it.
    EXPECT_NEAR(luma.pixels[i],
                Luma(rgb.pixels[3 * i], rgb.pixels[3 * i + 1], rgb.pixels[3 * i + 2]), 2);
  }
}

TEST(ImageDecoder, ReadsEveryKindOfPng) {
  constexpr int kWidth = 37, kHeight = 23;
  for (const bool interlaced : {false, true}) {
    const testing::PngForm form{.interlaced = interlaced};
    const std::vector<uint8_t> rgb = testing::TestPixels(kWidth, kHeight, 3, 4);
    const std::string png = testing::MakePng(rgb, kWidth, kHeight, 3, form);
    EXPECT_EQ(Decode(png).pixels, rgb);

    ImageDecoder decoder;
    const Window window{5, 7, 20, 19};
    const Decoded part = Decode(decoder, Encoded(png), 3, window);
    EXPECT_EQ(part.pixels[0], rgb[(7 * kWidth + 5) * 3]);
    EXPECT_EQ(part.pixels.back(), rgb[(18 * kWidth + 19) * 3 + 2]);

    std::vector<uint8_t> rgba;
    for (size_t i = 0; i < rgb.size(); i += 3) {
      rgba.insert(rgba.end(), {rgb[i], rgb[i + 1], rgb[i + 2], static_cast<uint8_t>(i)});
    }
    EXPECT_EQ(Decode(testing::MakePng(rgba, kWidth, kHeight, 4, form)).pixels, rgb)
        << "alpha is dropped, not applied";

    const std::vector<uint8_t> grey = testing::TestPixels(kWidth, kHeight, 1, 4);
    EXPECT_EQ(Decode(testing::MakePng(grey, kWidth, kHeight, 1, form)).pixels, grey);

    std::vector<uint8_t> wide;
    for (const uint8_t value : rgb) wide.insert(wide.end(), {value, value});  // 257 v
    EXPECT_EQ(Decode(testing::MakePng(wide, kWidth, kHeight, 3, {16, interlaced})).pixels, rgb);
  }
}

TEST(ImageDecoder, RefusesAPngThatClaimsTooMuch) {
  std::string png = testing::MakePng(testing::TestPixels(8, 8, 3, 1), 8, 8, 3);
  for (const size_t at : {16u, 20u}) png.replace(at, 4, std::string("\0\0\xC3\x50", 4));  // 50000
  // The checksum of the header is wrong now, which is a good reason too.
  EXPECT_EQ(ErrorOf([&] { Decode(png); }).exit_code(), ExitCode::kData);
}

TEST(ImageDecoder, ReadsOrientationWhenAskedAndNeverAppliesIt) {
  CONVOY_NEED_SHARED("data/odd/exif-rotated.JPEG");
  const EncodedSample sample =
      Encoded(testing::ReadFile(testing::SharedPath("data/odd/exif-rotated.JPEG")));
  ImageDecoder asked(ReadOrientation::kYes), not_asked;
  EXPECT_EQ(asked.Open(sample).info().orientation, 6);
  EXPECT_EQ(asked.Open(sample).info().width, 160);
  EXPECT_EQ(not_asked.Open(sample).info().orientation, 1);
}

TEST(DescribeContent, NamesWhatUsersMistakeForImages) {
  const auto describe = [](std::string_view text) {
    return DescribeContent(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  EXPECT_EQ(describe(""), "empty");
  EXPECT_EQ(describe("GIF89a...."), "a GIF image");
  EXPECT_EQ(describe("<!DOCTYPE html>\n"), "an HTML page");
  EXPECT_EQ(describe("\x1F\x8B\x08"), "a gzip file");
}

TEST(Names, AreSplitAndTold) {
  EXPECT_EQ(FolderOf("a/b/c.jpg"), "a/b");
  EXPECT_EQ(BaseOf("a/b/c.jpg"), "c.jpg");
  EXPECT_EQ(FolderOf("c.jpg"), "");
  EXPECT_TRUE(IsImageName("n01440764_1.JPEG"));
  EXPECT_FALSE(IsImageName("jpeg"));
  EXPECT_FALSE(IsImageName("a.jpg/readme"));
  EXPECT_EQ(Printable("a\nb"), "a\\x0ab");
}

}  // namespace
}  // namespace convoy
