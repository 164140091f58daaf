// layers/cuda/kernels/pooling.h - the places and windows of layers/operations/windows.h, computed
// in kernels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "layers/cuda/kernels/numbers.h"
#include "layers/operations/windows.h"

namespace convoy::cuda {

struct Range {
  int32_t begin, end;
};

// Windows of a Pool along one axis.
class PoolAxis {
 public:
  // Throws as PoolWindows does.
  PoolAxis(const Pool& pool, Axis axis, int64_t in, int64_t out)
      : stride_(pool.stride),
        kernel_(pool.kernel),
        before_(axis == Axis::kHeight ? pool.padding.top : pool.padding.left),
        after_(axis == Axis::kHeight ? pool.padding.bottom : pool.padding.right),
        in_(CheckedCount(in)),
        out_(CheckedCount(out)),
        counts_padding_(pool.divisor == AverageDivisor::kIncludePadding) {
    PoolWindows(pool, axis, in, out);
  }

  // Returns the start of the uncut window, which may lie in the padding.
  CONVOY_HOST_DEVICE int32_t Start(int32_t window) const {
    return window * stride_.divisor() - before_;
  }
  // Returns the places of a window. There is at least one.
  CONVOY_HOST_DEVICE Range Window(int32_t window) const {
    const int32_t start = Start(window);
    return {std::max(start, 0), std::min(start + kernel_, in_)};
  }
  // Returns the windows that contain a place.
  CONVOY_HOST_DEVICE Range Covering(int32_t place) const {
    const int32_t from_start = place + before_;
    const int32_t first = from_start < kernel_ ? 0 : stride_.Divide(from_start - kernel_) + 1;
    return {first, std::min(out_, stride_.Divide(from_start) + 1)};
  }
  CONVOY_HOST_DEVICE int32_t windows() const { return out_; }
  CONVOY_HOST_DEVICE int32_t places() const { return in_; }
  // Returns the nearest place of the image.
  CONVOY_HOST_DEVICE int32_t Clamp(int32_t place) const {
    return std::min(std::max(place, 0), in_ - 1);
  }
  // Places from the start of one window to the start of the next are a cell: cell i starts with
  // window i, whether that window is there or not. Cells [begin, end) touch the image.
  CONVOY_HOST_DEVICE Range Cells() const {
    return {stride_.Divide(before_), stride_.Divide(in_ - 1 + before_) + 1};
  }
  CONVOY_HOST_DEVICE float Divisor(int32_t window) const {
    const Range places = Window(window);
    const int32_t start = Start(window);
    const int32_t padded = std::min(start + kernel_, in_ + after_) - start;
    return static_cast<float>(counts_padding_ ? padded : places.end - places.begin);
  }

 private:
  Divider stride_;
  int32_t kernel_, before_, after_, in_, out_;
  bool counts_padding_;
};

// AdaptiveWindows.
class AdaptiveAxis {
 public:
  AdaptiveAxis(int64_t in, int64_t out) : in_(in), out_(out) { CheckedCount((in + 1) * (out + 1)); }

  CONVOY_HOST_DEVICE Range Window(int32_t window) const {
    return {out_.Divide(window * in_.divisor()), DivideUp((window + 1) * in_.divisor(), out_)};
  }
  // Window i ends after p if (i + 1) * in > p * out, and begins after p if
  // i * in >= (p + 1) * out.
  CONVOY_HOST_DEVICE Range Covering(int32_t place) const {
    return {in_.Divide(place * out_.divisor()), DivideUp((place + 1) * out_.divisor(), in_)};
  }
  CONVOY_HOST_DEVICE float Divisor(int32_t window) const {
    const Range places = Window(window);
    return static_cast<float>(places.end - places.begin);
  }

 private:
  CONVOY_HOST_DEVICE static int32_t DivideUp(int32_t n, const Divider& divider) {
    return divider.Divide(n + divider.divisor() - 1);
  }

  Divider in_, out_;
};

// Images [N, H, W, C].
class Images {
 public:
  explicit Images(const Shape& shape)
      : height_(CheckedCount(shape[1])),
        width_(CheckedCount(shape[2])),
        channels_(CheckedCount(shape[3])) {
    CheckedCount(shape.count() / shape[3]);
  }

  CONVOY_HOST_DEVICE int32_t height() const { return height_; }
  CONVOY_HOST_DEVICE int32_t channels() const { return channels_; }
  CONVOY_HOST_DEVICE int64_t row() const { return int64_t{width_} * channels_; }  // values
  // Returns the start of the channels of a place. Images may have more values than 32 bits count.
  CONVOY_HOST_DEVICE int64_t OffsetOf(int32_t image, int32_t h, int32_t w) const {
    return int64_t{(image * height_ + h) * width_ + w} * channels_;
  }

 private:
  int32_t height_, width_, channels_;
};

// Threads of a kernel over images: `width` channels of a place each, neighbours in memory side by
// side.
class PlaceThreads {
 public:
  struct Place {
    int32_t image, h, w, channel;
  };

  PlaceThreads(const Shape& shape, int width)
      : vector_width_(width),
        vectors_(shape[3] / width),
        columns_(shape[2]),
        rows_(shape[1]),
        count_(shape.count() / width) {}

  int64_t count() const { return count_; }
  CONVOY_HOST_DEVICE Place At(int32_t thread) const {
    Place place;
    int32_t vector;
    const int32_t index = vectors_.Split(thread, &vector);
    const int32_t row = columns_.Split(index, &place.w);
    place.image = rows_.Split(row, &place.h);
    place.channel = vector * vector_width_;
    return place;
  }

 private:
  int32_t vector_width_;
  Divider vectors_, columns_, rows_;
  int64_t count_;
};

}  // namespace convoy::cuda
