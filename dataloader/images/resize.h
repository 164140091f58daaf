// dataloader/images/resize.h - antialiased bilinear resampling of a part of an image.
//
// The filter is a triangle, as wide as two output pixels when shrinking and two source pixels when
// enlarging: what Pillow calls BILINEAR. Weights are exact fractions in integers, rounded to
// 1 / 2^16 so that they add up to one; pixels are the same on every machine. Only the outputs
// asked for are computed, from the source pixels that they need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/device/memory.h"
#include "dataloader/images/filter_kernels.h"

namespace convoy {

// The filter of one axis.
class AxisFilter {
 public:
  static constexpr int kOne = 1 << kWeightBits;

  // Makes the filter of outputs [first, first + count) of `source` pixels that are resized to
  // `resized`.
  void Build(int64_t source, int64_t resized, int64_t first, int count);

  // The source pixels [begin, end) are needed.
  int begin() const { return begin_; }
  int end() const { return end_; }
  int count() const { return static_cast<int>(starts_.size()); }
  // Returns the number of source pixels of one output.
  int taps() const { return taps_; }
  // Returns the first source pixel of output i; start + taps() <= end().
  int start(int i) const { return starts_[static_cast<size_t>(i)]; }
  const int* starts() const { return starts_.data(); }
  // Returns the weights of output i: taps() numbers >= 0 that add up to kOne.
  const int32_t* weights(int i) const {
    return weights_.data() + static_cast<size_t>(i) * static_cast<size_t>(taps_);
  }
  // Returns whether outputs are unchanged source pixels.
  bool is_copy() const { return is_copy_; }

 private:
  int begin_ = 0, end_ = 0, taps_ = 0;
  bool is_copy_ = false;
  std::vector<int> starts_;
  std::vector<int> ends_;  // last source pixel + 1 of an output; used in Build()
  std::vector<int32_t> weights_;
};

// The last rows of an image that is read from its top to its bottom.
//
// Rows begin 16 bytes after a cache line on purpose. libjpeg-turbo writes rows that lie on a vector
// boundary past the caches, which is good for whole images. But the rows of a ring are read again
// at once, and resizing takes twice as long if they come from memory.
class RowRing {
 public:
  void Configure(int64_t row_bytes, int rows);
  uint8_t* Row(int y) { return static_cast<uint8_t*>(memory_.data()) + At(y); }
  const uint8_t* Row(int y) const { return static_cast<const uint8_t*>(memory_.data()) + At(y); }

 private:
  static constexpr int64_t kOffset = 16;
  int64_t At(int y) const { return kOffset + (y % rows_) * stride_; }

  int64_t stride_ = 0;
  int rows_ = 1;
  Buffer memory_;
};

// Makes one crop while the rows of its image come in. The vertical filter comes first (it leaves
// fewer pixels for the horizontal one). Values between the two have 8 more bits than a pixel.
class RowResampler {
 public:
  // Begins a crop. Rows in the ring start at source column `first_column`; a pixel is 1 byte (grey)
  // or 4 (R, G, B and one that is not read). `out` is uint8 [vertical.count(), horizontal.count(),
  // channels] with 1 or 3 channels; grey rows are repeated over three. The filters must live until
  // after the last Advance().
  void Start(const AxisFilter& horizontal, const AxisFilter& vertical, int first_column,
             int pixel_bytes, int channels, uint8_t* out);
  // Writes every row that needs no source row after `available` - 1.
  void Advance(const RowRing& ring, int available);
  bool done() const { return next_ == vertical_->count(); }

 private:
  // Writes output row next_, with the channels that the ring has.
  void WriteRow(const RowRing& ring, uint8_t* out);

  const AxisFilter* horizontal_ = nullptr;
  const AxisFilter* vertical_ = nullptr;
  int first_column_ = 0, pixel_bytes_ = 1, channels_ = 1;
  uint8_t* out_ = nullptr;
  int next_ = 0;
  ColumnWeights columns_;
  std::vector<const uint8_t*> rows_;  // the rows that the next output needs
  // One row after the vertical filter: columns [horizontal.begin(), horizontal.end()).
  std::vector<uint16_t> row_;
};

}  // namespace convoy
