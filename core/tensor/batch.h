// core/tensor/batch.h - what a loader delivers and a device finishes.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "core/device/memory.h"
#include "core/tensor/shape.h"
#include "core/tensor/tensor.h"

namespace convoy {

// One row of a batch. Trivially copyable: ranks that share the decoding exchange these as bytes.
struct SampleInfo {
  int64_t position = -1;  // place in the epoch's order, counted over all ranks; -1 for padding
  int64_t sample = -1;    // the sample's identity in its data set; -1 for padding
  int32_t label = 0;      // 0 .. classes - 1; -1 if the data set has no labels
  float weight = 0;       // 1; 0 for padding and dropped samples
  float colour_shift[3] = {0, 0, 0};  // added to R, G, B, in units of the 0..255 pixel
  uint32_t mirror = 0;                // 1: the device flips the row left to right
};

// Which part of a step's global batch a batch is: the parts come one after another, and their
// gradients add up to those of the step.
struct MicroBatch {
  int index = 0, count = 1;
  bool is_last() const { return index + 1 == count; }
  auto operator<=>(const MicroBatch&) const = default;
};

// Crops [N, H, W, C] and what is known of each row. The network's first layer applies mirror, mean,
// colour shift, scale and type to uint8 crops:
//   x[h, w, c] = (pixel[h, mirror ? W-1-w : w, c] - mean[h, w, c] + colour_shift[c])
//                * colour_scale / standard_deviation[c]
struct Batch {
  int64_t epoch = 0;
  int64_t index = 0;         // of the global batch in its epoch
  MicroBatch micro;          // of the global batch
  int64_t global_count = 0;  // samples of the global batch over all ranks, padding not counted
  float colour_scale = 1;    // 1 / (1 + colour strength), as the 2012 code did; else 1
  Shape shape;               // [N, H, W, C]
  Buffer pixels;             // uint8; pinned if the loader was given such memory
  std::vector<SampleInfo> samples;  // N

  Tensor PixelTensor() const { return ViewOf(pixels, DType::kUInt8, shape); }
};

}  // namespace convoy
