// dataloader/crops/crop_plan.h - where the crops of an image lie: a function of the image's size,
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

// Crops are cut out of the region of the source, resized. The resized region is never made as a
// whole: for a 1 x 2000 image it would be 256 x 512000.
struct CropPlan {
  // The source is decoded at 1 / dct_scale of its size: 1, 2 or 4. The region is in pixels of that
  // size.
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

// Returns the random words of a sample for one purpose: block `block` of their sequence.
RandomWords DrawFor(Purpose purpose, const CropKey& key, uint32_t block = 0);

// Plans the crops that `options` ask for.
CropPlan PlanCrops(int width, int height, const CropOptions& options, const CropKey& key);

// Changes the plan of a JPEG so that it is decoded at 1/2 or 1/4, if its region then stays no
// smaller than what it is resized to.
void ScaleInDct(CropPlan& plan);

// Plans the square that statistics are made from: the whole image for kSquash, else its centre.
CropPlan PlanSquare(int width, int height, Geometry geometry, int side);

// Plans the whole image with its short side resized to `side` and its long side in proportion,
// truncated.
CropPlan PlanWhole(int width, int height, int side);

// Returns half of `space`; of a half number the even neighbour, where Python's round() puts a
// centre crop.
int64_t CentreOffset(int64_t space);

}  // namespace convoy
