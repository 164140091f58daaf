#include "dataloader/crop_plan.h"

#include <algorithm>

#include "core/error.h"
#include "core/random.h"

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

RandomWords Draw(Purpose purpose, const CropKey& key) {
  return RandomBlock({.seed = key.seed,
                      .purpose = purpose,
                      .epoch = static_cast<uint32_t>(key.epoch),
                      .position = static_cast<uint64_t>(key.position)});
}

}  // namespace

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

CropPlan PlanCrops(int width, int height, const CropOptions& options, const CropKey& key) {
  CropPlan plan = Resized(width, height, options.geometry, options.resize);
  const Ground ground = GroundOf(plan, options.geometry, options.resize);
  const int64_t right = ground.width - options.crop, lower = ground.height - options.crop;
  CONVOY_CHECK(right >= 0 && lower >= 0, "crop {} of {} x {}", options.crop, ground.width,
               ground.height);
  const auto place = [&ground](int64_t x, int64_t y, bool mirror) {
    return CropPlace{ground.x + x, ground.y + y, mirror};
  };
  if (options.random) {
    const RandomWords words = Draw(Purpose::kCrop, key);
    plan.places[0] = place(ToBelow(words[0], static_cast<uint32_t>(right + 1)),
                           ToBelow(words[1], static_cast<uint32_t>(lower + 1)),
                           ToBelow(Draw(Purpose::kMirror, key)[0], 2) == 1);
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
