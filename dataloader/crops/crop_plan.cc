#include "dataloader/crops/crop_plan.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "dataloader/images/image.h"

namespace convoy {
namespace {

// The rectangle of the resized image that crops are drawn from.
struct Ground {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

Ground GroundOf(const CropPlan& plan, Geometry geometry, int side) {
  if (geometry != Geometry::kSquare2012) return {0, 0, plan.resized_width, plan.resized_height};
  return {CentreOffset(plan.resized_width - side), CentreOffset(plan.resized_height - side), side,
          side};
}

CropPlan Resized(int width, int height, Geometry geometry, int side) {
  if (geometry != Geometry::kSquash) return PlanWhole(width, height, side);
  CropPlan plan = PlanWhole(width, height, side);
  plan.resized_width = plan.resized_height = side;
  return plan;
}

// The limits of kRandomResized.
constexpr double kLeastArea = 0.08, kMostArea = 1;
constexpr double kLeastRatio = 3.0 / 4, kMostRatio = 4.0 / 3;
constexpr uint32_t kAttempts = 10;

// Draws a region as torchvision does: the area evenly, the logarithm of width / height evenly, in
// ten attempts to find one that lies inside of the image; if none does, its centre, cut to the
// nearest ratio allowed. Computes in double precision before it rounds to pixels: mathematical
// libraries that differ in a last bit could round one region in some 10^13 differently.
Region DrawRegion(int width, int height, const CropKey& key) {
  const double area = static_cast<double>(width) * height;
  const double log_least = std::log(kLeastRatio), log_most = std::log(kMostRatio);
  for (uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    const RandomWords shape = DrawFor(Purpose::kCrop, key, 2 * attempt);
    const double share = ToUniform(shape[0], shape[1]);
    const double target = area * (kLeastArea + (kMostArea - kLeastArea) * share);
    const double ratio =
        std::exp(log_least + (log_most - log_least) * ToUniform(shape[2], shape[3]));
    const auto w = static_cast<int>(std::lround(std::sqrt(target * ratio)));
    const auto h = static_cast<int>(std::lround(std::sqrt(target / ratio)));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const RandomWords place = DrawFor(Purpose::kCrop, key, 2 * attempt + 1);
    return {static_cast<int>(ToBelow(place[0], static_cast<uint32_t>(width - w + 1))),
            static_cast<int>(ToBelow(place[1], static_cast<uint32_t>(height - h + 1))), w, h};
  }
  Region region{0, 0, width, height};
  const double ratio = static_cast<double>(width) / height;
  if (ratio < kLeastRatio) {
    region.height = std::max(1, static_cast<int>(std::lround(width / kLeastRatio)));
  } else if (ratio > kMostRatio) {
    region.width = std::max(1, static_cast<int>(std::lround(height * kMostRatio)));
  }
  region.x = (width - region.width) / 2;
  region.y = (height - region.height) / 2;
  return region;
}

}  // namespace

RandomWords DrawFor(Purpose purpose, const CropKey& key, uint32_t block) {
  return RandomBlock({.seed = key.seed,
                      .purpose = purpose,
                      .epoch = static_cast<uint32_t>(key.epoch),
                      .position = static_cast<uint64_t>(key.position)},
                     block);
}

int64_t CentreOffset(int64_t space) {
  const int64_t half = space / 2;
  return space % 2 == 0 ? half : half + half % 2;
}

CropPlan PlanWhole(int width, int height, int side) {
  CONVOY_CHECK(width >= 1 && height >= 1 && side >= 1, "{} x {} to {}", width, height, side);
  CropPlan plan;
  plan.region = {0, 0, width, height};
  const int64_t shorter = std::min(width, height), longer = std::max(width, height);
  const int64_t long_side = side * longer / shorter;
  plan.resized_width = width <= height ? side : long_side;
  plan.resized_height = width <= height ? long_side : side;
  return plan;
}

CropPlan PlanSquare(int width, int height, Geometry geometry, int side) {
  CropPlan plan = Resized(width, height, geometry, side);
  plan.places[0] = {CentreOffset(plan.resized_width - side),
                    CentreOffset(plan.resized_height - side), false};
  return plan;
}

void ScaleInDct(CropPlan& plan) {
  const Region whole = plan.region;
  for (const int scale : {2, 4}) {
    if (whole.width < scale * plan.resized_width || whole.height < scale * plan.resized_height) {
      return;
    }
    plan.dct_scale = scale;
    plan.region.x = whole.x / scale;
    plan.region.y = whole.y / scale;
    plan.region.width = ScaledSide(whole.x + whole.width, scale) - plan.region.x;
    plan.region.height = ScaledSide(whole.y + whole.height, scale) - plan.region.y;
  }
}

CropPlan PlanCrops(int width, int height, const CropOptions& options, const CropKey& own_key) {
  CropKey key = own_key;
  key.position /= options.images_per_draw;
  if (options.random && options.geometry == Geometry::kRandomResized) {
    CropPlan plan;
    plan.region = DrawRegion(width, height, key);
    plan.resized_width = plan.resized_height = options.crop;
    plan.places[0].mirror = ToBelow(DrawFor(Purpose::kMirror, key)[0], 2) == 1;
    return plan;
  }
  CropPlan plan = Resized(width, height, options.geometry, options.resize);
  const Ground ground = GroundOf(plan, options.geometry, options.resize);
  const int64_t right = ground.width - options.crop, lower = ground.height - options.crop;
  CONVOY_CHECK(right >= 0 && lower >= 0, "crop {} of {} x {}", options.crop, ground.width,
               ground.height);
  const auto place = [&ground](int64_t x, int64_t y, bool mirror) {
    return CropPlace{ground.x + x, ground.y + y, mirror};
  };
  if (options.random) {
    const RandomWords words = DrawFor(Purpose::kCrop, key);
    plan.places[0] = place(ToBelow(words[0], static_cast<uint32_t>(right + 1)),
                           ToBelow(words[1], static_cast<uint32_t>(lower + 1)),
                           ToBelow(DrawFor(Purpose::kMirror, key)[0], 2) == 1);
    return plan;
  }
  const CropPlace centre = place(CentreOffset(right), CentreOffset(lower), false);
  plan.views = options.views;
  if (options.views == 1) {
    plan.places[0] = centre;
    return plan;
  }
  CONVOY_CHECK(options.views == kMostViews, "{} views", options.views);
  plan.places = {place(0, 0, false), place(right, 0, false), place(0, lower, false),
                 place(right, lower, false), centre};
  for (size_t i = 0; i < 5; ++i) {
    plan.places[5 + i] = plan.places[i];
    plan.places[5 + i].mirror = true;
  }
  return plan;
}

}  // namespace convoy
