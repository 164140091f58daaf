// dataloader/crops/crop_plan.h - where in an image its crops lie: a function of the image's size,
// the options, and (seed, epoch, position). No pixels here.
#pragma once

#include <array>
#include <cstdint>

#include "core/random.h"
#include "dataloader/crop_options.h"

namespace convoy {

inline constexpr int kMostViews = 10;

// A part of the source image, in its pixels.
struct Region {
  int x = 0, y = 0, width = 0, height = 0;
};

// Left upper corner of a crop, in pixels of the resized region.
struct CropPlace {
  int64_t x = 0, y = 0;
  bool mirror = false;
};

// The region of the source is thought resized, and the crops are cut out of that. It is never made
// as a whole: for a 1 x 2000 image it would be 256 x 512000.
struct CropPlan {
  // The source is decoded at 1 / dct_scale of its size: 1, 2 or 4. The region counts those pixels.
  int dct_scale = 1;
  Region region;
  int64_t resized_width = 0, resized_height = 0;
  int views = 1;
  std::array<CropPlace, kMostViews> places;
};

struct CropKey {
  uint64_t seed = 0;
  int64_t epoch = 0, position = 0;
};

// The random words of a sample for one purpose: block `block` of their sequence.
RandomWords DrawFor(Purpose purpose, const CropKey& key, uint32_t block = 0);

CropPlan PlanCrops(int width, int height, const CropOptions& options, const CropKey& key);

// Lets a JPEG be decoded at 1/2 or 1/4, where its region stays no smaller than what it is resized
// to.
void ScaleInDct(CropPlan& plan);

// The square that statistics are made of: kSquash: the image; else its centre.
CropPlan PlanSquare(int width, int height, Geometry geometry, int side);

// Short side to `side`, the long side in proportion, truncated.
CropPlan PlanWhole(int width, int height, int side);

// Half of `space`, halves to the even number: where Python's round() puts a centre crop.
int64_t CentreOffset(int64_t space);

}  // namespace convoy
