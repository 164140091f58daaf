#include "dataloader/images/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <nlohmann/json.hpp>

#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "dataloader/images/image.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

// Returns the weight of source pixel x for output o: the triangle filter by its definition, in
// double.
double ExactWeight(int64_t source, int64_t resized, int64_t o, int64_t x) {
  const double scale = static_cast<double>(source) / static_cast<double>(resized);
  const double reach = std::max(scale, 1.0);
  const auto triangle = [&](int64_t pixel) {
    const double distance =
        static_cast<double>(pixel) + 0.5 - (static_cast<double>(o) + 0.5) * scale;
    return std::max(0.0, 1 - std::abs(distance) / reach);
  };
  double total = 0;
  for (int64_t pixel = 0; pixel < source; ++pixel) total += triangle(pixel);
  return triangle(x) / total;
}

TEST(AxisFilter, WeightsAreTheTriangleAndAddUpToOne) {
  for (const auto& [source, resized] : std::vector<std::pair<int, int>>{{375, 256},
                                                                        {500, 341},
                                                                        {256, 256},
                                                                        {100, 256},
                                                                        {1, 256},
                                                                        {2000, 256},
                                                                        {3, 2},
                                                                        {7, 5},
                                                                        {28, 28},
                                                                        {5, 512},
                                                                        {1999, 3}}) {
    SCOPED_TRACE(fmt::format("{} to {}", source, resized));
    AxisFilter filter;
    filter.Build(source, resized, 0, resized);
    EXPECT_EQ(filter.begin(), 0);
    EXPECT_EQ(filter.end(), source);
    EXPECT_EQ(filter.is_copy(), source == resized);
    for (int o = 0; o < resized; ++o) {
      ASSERT_GE(filter.start(o), 0);
      ASSERT_LE(filter.start(o) + filter.taps(), source);
      const int32_t* weights = filter.weights(o);
      ASSERT_EQ(std::accumulate(weights, weights + filter.taps(), 0), AxisFilter::kOne);
      for (int tap = 0; tap < filter.taps(); ++tap) {
        // Two sums, each rounded by at most half a unit.
        ASSERT_NEAR(weights[tap],
                    AxisFilter::kOne * ExactWeight(source, resized, o, filter.start(o) + tap), 1.01)
            << o << " " << tap;
      }
    }
  }
}

TEST(AxisFilter, APartOfTheOutputsIsThatPartOfAll) {
  for (const auto& [source, resized] :
       std::vector<std::pair<int, int>>{{375, 256}, {100, 256}, {1000, 256}, {256, 256}}) {
    AxisFilter all, part;
    all.Build(source, resized, 0, resized);
    for (const auto& [first, count] :
         std::vector<std::pair<int, int>>{{0, 1}, {17, 224}, {255, 1}}) {
      part.Build(source, resized, first, count);
      ASSERT_EQ(part.count(), count);
      for (int i = 0; i < count; ++i) {
        for (int x = 0; x < source; ++x) {
          const auto weight = [x](const AxisFilter& filter, int o) {
            const int tap = x - filter.start(o);
            return tap >= 0 && tap < filter.taps() ? filter.weights(o)[tap] : 0;
          };
          ASSERT_EQ(weight(part, i), weight(all, first + i));
        }
        ASSERT_GE(part.start(i), part.begin());
        ASSERT_LE(part.start(i) + part.taps(), part.end());
      }
    }
  }
}

// The 512,000 rows are never made: the filter of a crop reaches over two source pixels.
TEST(AxisFilter, AnEnormousEnlargementStaysSmall) {
  AxisFilter filter;
  filter.Build(2000, 512000, 300000, 224);
  EXPECT_LE(filter.end() - filter.begin(), 3);
  EXPECT_LE(filter.taps(), 3);
  filter.Build(65535, int64_t{65535} * 256, int64_t{65535} * 256 - 224, 224);
  EXPECT_EQ(filter.end(), 65535);
}

std::vector<uint8_t> Render(const std::string& bytes, const CropPlan& plan, int width, int height,
                            int channels) {
  const EncodedSample sample{.bytes = std::vector<uint8_t>(bytes.begin(), bytes.end())};
  CropRenderer renderer;
  renderer.Open(sample);
  std::vector<uint8_t> out(static_cast<size_t>(plan.views * width * height * channels));
  renderer.Render(plan, width, height, channels, out.data());
  return out;
}

// Filters in double and rounds once.
std::vector<uint8_t> ExactResize(const std::vector<uint8_t>& source, int width, int height,
                                 int channels, const CropPlan& plan, int out_width,
                                 int out_height) {
  const auto weights = [](int from, int64_t to, int64_t first, int count) {
    std::vector<std::vector<double>> rows;
    for (int o = 0; o < count; ++o) {
      std::vector<double>& row = rows.emplace_back();
      for (int x = 0; x < from; ++x) row.push_back(ExactWeight(from, to, first + o, x));
    }
    return rows;
  };
  const auto horizontal = weights(width, plan.resized_width, plan.places[0].x, out_width);
  const auto vertical = weights(height, plan.resized_height, plan.places[0].y, out_height);
  std::vector<uint8_t> out;
  for (int y = 0; y < out_height; ++y) {
    for (int x = 0; x < out_width; ++x) {
      for (int c = 0; c < channels; ++c) {
        double sum = 0;
        for (int v = 0; v < height; ++v) {
          const double weight = vertical[static_cast<size_t>(y)][static_cast<size_t>(v)];
          if (weight == 0) continue;
          for (int h = 0; h < width; ++h) {
            sum += weight * horizontal[static_cast<size_t>(x)][static_cast<size_t>(h)] *
                   source[static_cast<size_t>((v * width + h) * channels + c)];
          }
        }
        out.push_back(static_cast<uint8_t>(std::lround(sum)));
      }
    }
  }
  return out;
}

TEST(Resize, AgreesWithTheExactFilterWithinOneLevel) {
  for (const auto& [width, height] :
       std::vector<std::pair<int, int>>{{90, 61}, {20, 33}, {48, 48}, {200, 50}, {1, 40}}) {
    for (const int channels : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} x {} x {}", width, height, channels));
      const std::vector<uint8_t> pixels = testing::TestPixels(width, height, channels, 3);
      CropPlan plan = PlanWhole(width, height, 48);
      plan.places[0] = {CentreOffset(plan.resized_width - 40), 5, false};
      const std::vector<uint8_t> found =
          Render(testing::MakePng(pixels, width, height, channels), plan, 40, 40, channels);
      const std::vector<uint8_t> exact = ExactResize(pixels, width, height, channels, plan, 40, 40);
      ASSERT_EQ(found.size(), exact.size());
      int different = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        ASSERT_NEAR(found[i], exact[i], 1);
        different += found[i] != exact[i];
      }
      // 14 bits of weight and 7 bits between the passes: an error of 0.02 levels rounds wrong in 4
      // %.
      EXPECT_LT(different, static_cast<int>(found.size()) / 25);
    }
  }
}

// Filters of more than 64 taps are summed in another way.
TEST(Resize, AgreesWithTheExactFilterWhenShrinkingALot) {
  for (const int side : {6, 3}) {  // 67 and 133 taps
    const std::vector<uint8_t> pixels = testing::TestPixels(230, 200, 3, 3);
    const CropPlan plan = PlanWhole(230, 200, side);
    const std::vector<uint8_t> found =
        Render(testing::MakePng(pixels, 230, 200, 3), plan, side, side, 3);
    const std::vector<uint8_t> exact = ExactResize(pixels, 230, 200, 3, plan, side, side);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], exact[i], 1);
  }
}

TEST(Resize, AConstantImageStaysConstant) {
  for (const int value : {0, 1, 128, 254, 255}) {
    const std::vector<uint8_t> pixels(300 * 200 * 3, static_cast<uint8_t>(value));
    for (const int side : {2, 7, 20, 64, 128, 200, 333}) {
      const CropPlan plan = PlanWhole(300, 200, side);
      for (const uint8_t found :
           Render(testing::MakePng(pixels, 300, 200, 3), plan, side, side, 3)) {
        ASSERT_EQ(found, value) << side;
      }
    }
  }
}

TEST(Resize, TheSameSizeIsACopy) {
  const std::vector<uint8_t> pixels = testing::TestPixels(64, 64, 3, 9);
  const CropPlan plan = PlanWhole(64, 64, 64);
  EXPECT_EQ(Render(testing::MakePng(pixels, 64, 64, 3), plan, 64, 64, 3), pixels);
}

TEST(Resize, GreyIsRepeatedOverThreeChannels) {
  const std::vector<uint8_t> pixels = testing::TestPixels(90, 70, 1, 9);
  const std::string png = testing::MakePng(pixels, 90, 70, 1);
  const CropPlan plan = PlanWhole(90, 70, 48);
  const std::vector<uint8_t> grey = Render(png, plan, 48, 48, 1),
                             three = Render(png, plan, 48, 48, 3);
  for (size_t i = 0; i < three.size(); ++i) ASSERT_EQ(three[i], grey[i / 3]);
}

// The target of the project: within one level of Pillow's own output on 99.9 % of the values.
TEST(Resize, AgreesWithPillow) {
  CONVOY_NEED_SHARED("reference/pil/pil.json");
  CONVOY_NEED_SHARED("data/photos-mini.tar");
  const auto reference =
      nlohmann::json::parse(testing::ReadFile(testing::SharedPath("reference/pil/pil.json")));
  testing::TempFolder folder;
  const auto dataset = OpenDataset(testing::SharedPath("data/photos-mini.tar"),
                                   {.index_folder = folder.path()}, testing::QuietLog());
  CropRenderer renderer;
  EncodedSample sample;
  int images = 0;
  for (const auto& image : reference["images"]) {
    const std::string member = image["member"];  // "n01440764.tar/n01440764_0.JPEG"
    SCOPED_TRACE(member);
    int64_t i = 0;
    const std::string name = member.substr(0, 9) + member.substr(13);
    while (dataset->Name(i) != name) ++i;
    dataset->Read(i, sample);
    const ImageInfo info = renderer.Open(sample);
    EXPECT_EQ(info.width, image["source"][0]);
    EXPECT_EQ(info.height, image["source"][1]);
    for (const Geometry geometry : {Geometry::kRectangle, Geometry::kSquare2012}) {
      const CropPlan plan =
          PlanCrops(info.width, info.height, {.geometry = geometry, .random = false}, {});
      EXPECT_EQ(plan.resized_width, image["resized"][0]);
      EXPECT_EQ(plan.resized_height, image["resized"][1]);
      EXPECT_EQ(plan.places[0].x, image["crop"][0]);
      EXPECT_EQ(plan.places[0].y, image["crop"][1]);
    }
    const CropPlan plan = PlanCrops(info.width, info.height, {.random = false}, {});
    std::vector<uint8_t> found(224 * 224 * 3);
    renderer.Render(plan, 224, 224, 3, found.data());
    const std::string file = image["file"];
    const std::vector<uint8_t> pillow =
        testing::PlainPngDecode(testing::SharedPath("reference/pil/" + file)).pixels;
    ASSERT_EQ(pillow.size(), found.size());
    int64_t beyond = 0;
    for (size_t k = 0; k < found.size(); ++k) beyond += std::abs(found[k] - pillow[k]) > 1;
    EXPECT_LE(static_cast<double>(beyond), 0.001 * static_cast<double>(found.size()));
    ++images;
  }
  EXPECT_EQ(images, 9);
}

// Cropping the decoding as well as the resizing changes no bit: over real photographs and every odd
// file, for crops at many places.
void ExpectEqualToWholeDecode(const EncodedSample& sample, const std::string& name) {
  SCOPED_TRACE(name);
  CropRenderer renderer;
  ImageDecoder decoder;
  ImageInfo info;
  try {
    RowDecoder& image = decoder.Open(sample);
    info = image.info();
    image.Start({0, 0, info.width, info.height}, 3);
    const int pixel_bytes = image.pixel_bytes();
    EncodedSample plain{
        .height = info.height, .width = info.width, .channels = pixel_bytes == 4 ? 3 : 1};
    std::vector<uint8_t> row(static_cast<size_t>(info.width * pixel_bytes));
    uint8_t* pointer = row.data();
    for (int y = 0; y < info.height; ++y) {
      image.ReadRows(&pointer, 1);
      for (int x = 0; x < info.width; ++x) {
        const uint8_t* pixel = row.data() + x * pixel_bytes;
        plain.bytes.insert(plain.bytes.end(), pixel, pixel + plain.channels);
      }
    }
    for (int64_t position = 0; position < 4; ++position) {
      for (const Geometry geometry :
           {Geometry::kSquare2012, Geometry::kRectangle, Geometry::kSquash}) {
        const CropPlan plan =
            PlanCrops(info.width, info.height, {.geometry = geometry}, {.position = position});
        std::vector<uint8_t> direct(224 * 224 * 3), from_whole(direct.size());
        renderer.Open(sample);
        renderer.Render(plan, 224, 224, 3, direct.data());
        renderer.Open(plain);
        renderer.Render(plan, 224, 224, 3, from_whole.data());
        ASSERT_TRUE(direct == from_whole) << position;
      }
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kData);
  }
}

TEST(Resize, CroppedDecodingIsBitEqualOverPhotographs) {
  CONVOY_NEED_SHARED("data/photos-mini.tar");
  testing::TempFolder folder;
  const auto dataset = OpenDataset(testing::SharedPath("data/photos-mini.tar"),
                                   {.index_folder = folder.path()}, testing::QuietLog());
  EncodedSample sample;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    dataset->Read(i, sample);
    ExpectEqualToWholeDecode(sample, dataset->Name(i));
  }
}

TEST(Resize, CroppedDecodingIsBitEqualOverOddFiles) {
  CONVOY_NEED_SHARED("data/odd");
  const auto files = OpenImages({testing::SharedPath("data/odd")});
  EncodedSample sample;
  for (int64_t i = 0; i < files->size(); ++i) {
    files->Read(i, sample);
    ExpectEqualToWholeDecode(sample, files->Name(i));
  }
}

}  // namespace
}  // namespace convoy
