// Random resized crops, shared draws, decoding at a fraction of the size, colour jitter.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/tensor/dtype.h"
#include "dataloader/crops/colour.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::HashesOf;
using testing::SmallOptions;

// --- Random resized crops ------------------------------------------------------------------------

TEST(RandomResized, AreasAndShapesAreEvenlySpreadInsideOfTheImage) {
  const CropOptions options{.geometry = Geometry::kRandomResized};
  constexpr int kWidth = 500, kHeight = 375;
  constexpr int64_t kDraws = 20000;
  double areas = 0, log_ratios = 0, left = 0, least = 1, most = 0;
  for (int64_t position = 0; position < kDraws; ++position) {
    const CropPlan plan = PlanCrops(kWidth, kHeight, options, {.seed = 3, .position = position});
    const Region& region = plan.region;
    ASSERT_GE(region.x, 0);
    ASSERT_GE(region.y, 0);
    ASSERT_LE(region.x + region.width, kWidth);
    ASSERT_LE(region.y + region.height, kHeight);
    EXPECT_EQ(plan.resized_width, 224);
    EXPECT_EQ(plan.resized_height, 224);
    const double area = double(region.width) * region.height / (kWidth * kHeight);
    const double ratio = double(region.width) / region.height;
    // A side is rounded to whole pixels; it has at least a hundred.
    EXPECT_GE(ratio, 0.75 * 0.98);
    EXPECT_LE(ratio, 1 / 0.75 * 1.02);
    areas += area;
    log_ratios += std::log(ratio);
    least = std::min(least, area);
    most = std::max(most, area);
    if (kWidth > region.width) left += double(region.x) / (kWidth - region.width);
  }
  EXPECT_LT(least, 0.085);
  EXPECT_GT(most, 0.97);
  // The expected values, by a fine grid: even in area and in the logarithm of the ratio, as far as
  // both sides fit.
  double weight = 0, area_mean = 0, log_mean = 0;
  constexpr int kGrid = 400;
  for (int i = 0; i < kGrid * kGrid; ++i) {
    const int row = i / kGrid, column = i % kGrid;
    const double area = 0.08 + 0.92 * (row + 0.5) / kGrid;
    const double log_ratio = std::log(4.0 / 3) * (2 * (column + 0.5) / kGrid - 1);
    const double pixels = area * kWidth * kHeight;
    if (std::sqrt(pixels * std::exp(log_ratio)) > kWidth + 0.5) continue;
    if (std::sqrt(pixels / std::exp(log_ratio)) > kHeight + 0.5) continue;
    weight += 1;
    area_mean += area;
    log_mean += log_ratio;
  }
  // Five standard errors: of areas 5 * 0.27 / sqrt(20000), of logarithms 5 * 0.17 / sqrt(20000).
  EXPECT_NEAR(areas / kDraws, area_mean / weight, 0.0095);
  EXPECT_NEAR(log_ratios / kDraws, log_mean / weight, 0.006);
  EXPECT_NEAR(left / kDraws, 0.5, 0.02);
}

TEST(RandomResized, AnImageThatNoShapeFitsGivesItsCentre) {
  const CropOptions options{.geometry = Geometry::kRandomResized};
  // In an image of 10 x 2000 the widest region is 10 pixels wide and 13 high.
  std::set<int> heights;
  for (int64_t position = 0; position < 200; ++position) {
    const Region region = PlanCrops(10, 2000, options, {.position = position}).region;
    EXPECT_LE(region.width, 10);
    heights.insert(region.height);
  }
  EXPECT_TRUE(heights.contains(13));
  const Region fallback = PlanCrops(1, 2000, options, {.position = 1}).region;
  EXPECT_EQ(fallback.width, 1);
  EXPECT_EQ(fallback.height, 1);
  EXPECT_EQ(fallback.y, 999);
}

TEST(RandomResized, EvaluationTakesTheRectanglesCentre) {
  const CropPlan own =
      PlanCrops(500, 375, {.geometry = Geometry::kRandomResized, .random = false}, {});
  const CropPlan rectangle =
      PlanCrops(500, 375, {.geometry = Geometry::kRectangle, .random = false}, {});
  EXPECT_EQ(own.resized_width, rectangle.resized_width);
  EXPECT_EQ(own.places[0].x, rectangle.places[0].x);
  EXPECT_EQ(own.places[0].y, rectangle.places[0].y);
}

// --- Shared draws --------------------------------------------------------------------------------

TEST(SharedDraws, ThirtyTwoNeighboursShareTheirPlaceAndMirror) {
  const CropOptions options{.images_per_draw = 32};
  std::set<std::tuple<int64_t, int64_t, bool>> draws;
  for (int64_t position = 0; position < 32 * 64; ++position) {
    const CropPlace place =
        PlanCrops(500, 375, options, {.seed = 9, .position = position}).places[0];
    const CropPlace first =
        PlanCrops(500, 375, options, {.seed = 9, .position = position / 32 * 32}).places[0];
    EXPECT_EQ(place.x, first.x);
    EXPECT_EQ(place.y, first.y);
    EXPECT_EQ(place.mirror, first.mirror);
    draws.emplace(place.x, place.y, place.mirror);
  }
  // 64 draws out of 2178: one coincidence is expected, ten are not.
  EXPECT_GT(draws.size(), 54u);
}

// --- Decoding at a fraction of the size ----------------------------------------------------------

TEST(DctScaling, NeverGoesBelowTheResizedImage) {
  const std::map<std::pair<int, int>, int> expected = {
      {{500, 375}, 1},   {{511, 600}, 1},   {{512, 512}, 2},   {{600, 512}, 2},
      {{1023, 1023}, 2}, {{1024, 1024}, 4}, {{4000, 3000}, 4}, {{511, 5000}, 1}};
  for (const auto& [size, scale] : expected) {
    CropPlan plan = PlanWhole(size.first, size.second, 256);
    ScaleInDct(plan);
    EXPECT_EQ(plan.dct_scale, scale) << size.first << " x " << size.second;
    EXPECT_EQ(plan.region.width, ScaledSide(size.first, scale));
    EXPECT_EQ(plan.region.height, ScaledSide(size.second, scale));
  }
}

TEST(DctScaling, AWindowHasThePixelsOfTheWholeScaledDecode) {
  ImageDecoder decoder;
  for (const int h : {1, 2}) {
    for (const int v : {1, 2}) {
      const std::string file = testing::MakeJpeg(301, 203, 5, {.h = h, .v = v});
      EncodedSample sample;
      sample.bytes.assign(file.begin(), file.end());
      for (const int scale : {1, 2, 4}) {
        const int width = ScaledSide(301, scale), height = ScaledSide(203, scale);
        RowDecoder& image = decoder.Open(sample);
        image.Start({0, 0, width, height}, 3, scale);
        std::vector<uint8_t> whole(static_cast<size_t>(width * height * 4));
        for (int y = 0; y < height; ++y) {
          uint8_t* row = whole.data() + y * width * 4;
          image.ReadRows(&row, 1);
        }
        const Window window{width / 3, height / 4, width - 7, height - 3};
        decoder.Open(sample).Start(window, 3, scale);
        std::vector<uint8_t> row(static_cast<size_t>(image.columns() * 4));
        for (int y = window.y0; y < window.y1; ++y) {
          uint8_t* pointer = row.data();
          image.ReadRows(&pointer, 1);
          for (int x = window.x0; x < window.x1; ++x) {
            for (int c = 0; c < 3; ++c) {
              ASSERT_EQ(row[static_cast<size_t>((x - image.first_column()) * 4 + c)],
                        whole[static_cast<size_t>((y * width + x) * 4 + c)])
                  << h << "x" << v << " 1/" << scale << " at " << x << ", " << y;
            }
          }
        }
      }
    }
  }
}

TEST(DctScaling, TheCropLooksTheSameAndIsOffByDefault) {
  EXPECT_FALSE(CropOptions().dct_scaling);
  const std::string file = testing::MakeJpeg(640, 560, 7, {});
  EncodedSample sample;
  sample.bytes.assign(file.begin(), file.end());
  CropRenderer renderer;
  std::vector<uint8_t> crops[2];
  for (size_t scaled = 0; scaled < 2; ++scaled) {
    const ImageInfo info = renderer.Open(sample);
    CropPlan plan = PlanCrops(info.width, info.height, {.random = false}, {});
    if (scaled == 1) ScaleInDct(plan);
    EXPECT_EQ(plan.dct_scale, scaled == 1 ? 2 : 1);
    crops[scaled].resize(224 * 224 * 3);
    renderer.Render(plan, 224, 224, 3, crops[scaled].data());
  }
  double difference = 0;
  for (size_t i = 0; i < crops[0].size(); ++i) {
    difference += std::abs(int{crops[0][i]} - int{crops[1][i]});
  }
  difference /= static_cast<double>(crops[0].size());
  // The pixels differ, but the picture is the same: noise of this image has a deviation of some
  // levels.
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, 3);
}

// --- Colour jitter -------------------------------------------------------------------------------

JitterDraw DrawOf(double brightness, double contrast, double saturation) {
  const auto fixed = [](double factor) {
    return static_cast<int32_t>(std::lround(factor * 65536));
  };
  return {.order = {JitterStep::kBrightness, JitterStep::kContrast, JitterStep::kSaturation},
          .factors = {fixed(brightness), fixed(contrast), fixed(saturation)}};
}

std::vector<uint8_t> Jittered(std::vector<uint8_t> pixels, const JitterDraw& draw, int channels) {
  ApplyJitter(draw, static_cast<int64_t>(pixels.size()) / channels, channels, pixels.data());
  return pixels;
}

TEST(ColourJitter, EachStepIsItsFormulaInDoublePrecision) {
  const std::vector<uint8_t> pixels = testing::TestPixels(31, 17, 3, 4);
  const auto grey = [&](size_t i) {
    const uint8_t* pixel = pixels.data() + i / 3 * 3;
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
  };
  double mean = 0;
  for (size_t i = 0; i < pixels.size(); ++i) mean += std::round(grey(i));
  mean = std::round(mean / static_cast<double>(pixels.size()));
  for (const double factor : {0.0, 0.4, 1.3, 2.0}) {
    const std::vector<uint8_t> bright = Jittered(pixels, DrawOf(factor, 1, 1), 3);
    const std::vector<uint8_t> contrast = Jittered(pixels, DrawOf(1, factor, 1), 3);
    const std::vector<uint8_t> saturated = Jittered(pixels, DrawOf(1, 1, factor), 3);
    for (size_t i = 0; i < pixels.size(); ++i) {
      const double value = pixels[i];
      const auto cut = [](double level) { return std::clamp(level, 0.0, 255.0); };
      // Half a level of rounding, and a little for the factor's 16 bits. Grey is a whole level, so
      // the last step may be wrong by |1 - factor| / 2 more.
      EXPECT_NEAR(bright[i], cut(factor * value), 0.51);
      EXPECT_NEAR(contrast[i], cut(factor * value + (1 - factor) * mean), 0.51);
      EXPECT_NEAR(saturated[i], cut(factor * value + (1 - factor) * grey(i)), 1.02);
    }
  }
  EXPECT_EQ(Jittered(pixels, DrawOf(1, 1, 1), 3), pixels);
}

TEST(ColourJitter, OneChannelHasNoSaturation) {
  const std::vector<uint8_t> pixels = testing::TestPixels(9, 9, 1, 4);
  EXPECT_EQ(Jittered(pixels, DrawOf(1, 1, 0), 1), pixels);
  EXPECT_NE(Jittered(pixels, DrawOf(0.5, 1, 1), 1), pixels);
}

TEST(ColourJitter, FactorsAreEvenlySpreadAndAllOrdersOccur) {
  constexpr int kDraws = 6000;
  const ColourJitter jitter{.brightness = 0.4, .contrast = 2, .saturation = 0};
  std::map<std::array<JitterStep, 3>, int> orders;
  double brightness = 0, contrast = 0, least = 1, most = 1;
  for (int64_t position = 0; position < kDraws; ++position) {
    const JitterDraw draw = DrawJitter(jitter, {.seed = 1, .position = position});
    ++orders[draw.order];
    brightness += draw.factors[0] / 65536.0;
    contrast += draw.factors[1] / 65536.0;
    least = std::min(least, draw.factors[0] / 65536.0);
    most = std::max(most, draw.factors[0] / 65536.0);
    EXPECT_EQ(draw.factors[2], 65536) << "a strength of 0 changes nothing";
    EXPECT_GE(draw.factors[1], 0) << "never a negative picture";
  }
  // Five standard errors: 5 * 0.8 / sqrt(12 * 6000) = 0.015; of [0, 3]: 0.056.
  EXPECT_NEAR(brightness / kDraws, 1, 0.015);
  EXPECT_NEAR(contrast / kDraws, 1.5, 0.056);
  EXPECT_NEAR(least, 0.6, 0.005);
  EXPECT_NEAR(most, 1.4, 0.005);
  ASSERT_EQ(orders.size(), 6u);
  // Five standard deviations of a count of 1000.
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, kDraws / 6.0, 145);
}

// --- All of it in a loader -----------------------------------------------------------------------

LoaderOptions EverythingDrawn(int threads) {
  LoaderOptions options = SmallOptions(8);
  options.threads = threads;
  options.crop.geometry = Geometry::kRandomResized;
  options.crop.jitter = {.brightness = 0.4, .contrast = 0.4, .saturation = 0.4};
  options.crop.images_per_draw = 4;
  options.crop.dct_scaling = true;
  return options;
}

TEST(Augmentation, TheStreamIsTheSameOnAnyNumberOfThreadsAndAfterAnySeek) {
  const testing::FakeDataset dataset(37);
  const auto one = testing::MakeLoader(dataset, EverythingDrawn(1));
  const std::vector<uint64_t> expected = HashesOf(*one, 12);
  for (const int threads : {2, 8}) {
    const auto loader = testing::MakeLoader(dataset, EverythingDrawn(threads));
    EXPECT_EQ(HashesOf(*loader, 12), expected);
    loader->Seek(1, 2);  // five batches an epoch
    EXPECT_EQ(HashesOf(*loader, 3),
              std::vector<uint64_t>(expected.begin() + 7, expected.begin() + 10));
  }
  LoaderOptions without = EverythingDrawn(1);
  without.crop.jitter = {};
  EXPECT_NE(HashesOf(*testing::MakeLoader(dataset, without), 1)[0], expected[0]);
}

TEST(Augmentation, StrengthsAndGroupsWithoutSenseAreRefused) {
  const testing::FakeDataset dataset(9);
  LoaderOptions options = SmallOptions(8);
  options.crop.images_per_draw = 0;
  EXPECT_EQ(testing::ErrorOf([&] { testing::MakeLoader(dataset, options); }).exit_code(),
            ExitCode::kUsage);
  options = SmallOptions(8);
  options.crop.jitter.contrast = -0.1;
  EXPECT_EQ(testing::ErrorOf([&] { testing::MakeLoader(dataset, options); }).exit_code(),
            ExitCode::kUsage);
}

}  // namespace
}  // namespace convoy
