// The size of an image and how it is cropped; then what one pixel is made of.
//
// The image has one colour, so every pixel of every crop must have it too, whatever is cut out and
// however it is resized.
#include <algorithm>
#include <cstring>
#include <vector>

#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "dataloader/images/image.h"
#include "tests/fuzz/support.h"

namespace convoy::fuzz {
namespace {

constexpr int kLongestSide = 10'000;
// Larger images are planned but not rendered: images of this size take a second under the
// sanitizers.
constexpr int64_t kMostImagePixels = kMostPixels / 2, kMostCropPixels = 4'000'000;

// Returns 1 to `most`. Small numbers come often, since the first of two bytes says how large the
// number may be.
int SideOf(Input& input, int most) {
  const int bits = 1 + input.Byte() % 14;
  return 1 + std::min(input.Word() % (1 << bits), most - 1);
}

enum class Planner { kCrops, kSquare, kWhole };

struct Form {
  explicit Form(Input& input) {
    const uint8_t flags = input.Byte(), more_flags = input.Byte();
    planner = static_cast<Planner>(more_flags % 3);
    width = SideOf(input, kLongestSide);
    height = SideOf(input, kLongestSide);
    components = (flags & 1) != 0 ? 3 : 1;
    options.geometry = static_cast<Geometry>(flags >> 1 & 3);
    options.channels = (flags & 8) != 0 ? 3 : 1;
    options.random = (flags & 16) != 0;
    options.views = options.random || (flags & 32) == 0 ? 1 : kMostViews;
    options.resize = SideOf(input, 2048);
    options.crop = 1 + input.Word() % options.resize;
    key = {.seed = input.Byte(), .epoch = input.Byte(), .position = input.Word()};
    scales_in_dct = (flags & 64) != 0;
    colour = input.Byte();
  }

  CropPlan Plan() const {
    switch (planner) {
      case Planner::kCrops:
        return PlanCrops(width, height, options, key);
      case Planner::kSquare:
        return PlanSquare(width, height, options.geometry, options.resize);
      case Planner::kWhole:
        break;
    }
    return PlanWhole(width, height, options.resize);
  }
  int64_t crop_width(const CropPlan& plan) const {
    if (planner == Planner::kWhole) return plan.resized_width;
    return planner == Planner::kSquare ? options.resize : options.crop;
  }
  int64_t crop_height(const CropPlan& plan) const {
    return planner == Planner::kWhole ? plan.resized_height : crop_width(plan);
  }

  Planner planner;
  int width, height, components;
  CropOptions options;
  CropKey key;
  bool scales_in_dct;
  uint8_t colour;
};

void RequireSense(const CropPlan& plan, int width, int height, int64_t crop_width,
                  int64_t crop_height) {
  const Region& region = plan.region;
  Require(region.x >= 0 && region.y >= 0 && region.width >= 1 && region.height >= 1 &&
              region.x + region.width <= width && region.y + region.height <= height,
          "a region leaves its image");
  for (int view = 0; view < plan.views; ++view) {
    const CropPlace& place = plan.places[static_cast<size_t>(view)];
    Require(place.x >= 0 && place.y >= 0 && place.x + crop_width <= plan.resized_width &&
                place.y + crop_height <= plan.resized_height,
            "a crop leaves the resized region");
  }
}

void Render(const Form& form, const CropPlan& plan) {
  const int64_t crop_width = form.crop_width(plan), crop_height = form.crop_height(plan);
  if (int64_t{form.width} * form.height > kMostImagePixels ||
      plan.views * crop_width * crop_height > kMostCropPixels) {
    return;
  }
  EncodedSample sample;
  sample.width = form.width;
  sample.height = form.height;
  sample.channels = form.components;
  // They are exactly as long as needed, so that the address sanitizer sees where they end.
  sample.bytes.assign(static_cast<size_t>(int64_t{form.width} * form.height * form.components),
                      form.colour);
  std::vector<uint8_t> crops(
      static_cast<size_t>(plan.views * crop_width * crop_height * form.options.channels),
      static_cast<uint8_t>(~form.colour));
  CropRenderer renderer;
  renderer.Open(sample);
  renderer.Render(plan, static_cast<int>(crop_width), static_cast<int>(crop_height),
                  form.options.channels, crops.data());
  Require(std::all_of(crops.begin(), crops.end(),
                      [&form](uint8_t value) { return value == form.colour; }),
          "an image of one colour has a crop with another");
}

}  // namespace
}  // namespace convoy::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const fuzz::Form form(input);
  CropPlan plan = form.Plan();
  fuzz::RequireSense(plan, form.width, form.height, form.crop_width(plan), form.crop_height(plan));
  if (!form.scales_in_dct) {
    fuzz::Render(form, plan);
    return 0;
  }
  // Only JPEGs are decoded at a part of their size; here it is about the plan.
  ScaleInDct(plan);
  fuzz::RequireSense(plan, ScaledSide(form.width, plan.dct_scale),
                     ScaledSide(form.height, plan.dct_scale), form.crop_width(plan),
                     form.crop_height(plan));
  return 0;
}
