// Images and weights in the sizes that the vendor's kernels are fast at: few channels filled up
// with zeros, padding that differs between the sides written out, and squares of places folded into
// channels. Bytes per place of the result: its channels written, those that are not zero read; no
// flops.
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/product_kernels.h"

namespace convoy::cuda {
namespace {

// One thread per kWidth channels of a place of `to`. kAtOnce: they come from one row of `from`, and
// lie there at a multiple of their size.
template <typename T, int kWidth, bool kAtOnce>
struct PackKernel {
  const T* from;
  T* to;
  Divider to_vectors, to_width, to_height;
  Divider run;                 // values of a place of `to` that follow one another in `from`
  int32_t height, row_values;  // of `from`
  int32_t top, left_values, fold;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t vector = 0, column = 0, line = 0, offset = 0;
    const int32_t place = to_vectors.Split(i, &vector);
    const int32_t image = to_height.Split(to_width.Split(place, &column), &line);
    int32_t row_of_square = run.Split(vector * kWidth, &offset);
    const int32_t first_row = line * fold - top;
    const int32_t first_value = column * run.divisor() - left_values;
    float values[kWidth] = {};
    if constexpr (kAtOnce) {
      const int32_t row = first_row + row_of_square, value = first_value + offset;
      if (IsInside(row_of_square, row, value)) LoadVector<kWidth>(At(image, row, value), values);
    } else {
      for (int j = 0; j < kWidth; ++j) {
        const int32_t row = first_row + row_of_square, value = first_value + offset;
        if (IsInside(row_of_square, row, value)) values[j] = ToFloat(*At(image, row, value));
        if (++offset == run.divisor()) {
          offset = 0;
          ++row_of_square;
        }
      }
    }
    StoreVector<kWidth>(values, to + int64_t{i} * kWidth);
  }

  CONVOY_HOST_DEVICE bool IsInside(int32_t row_of_square, int32_t row, int32_t value) const {
    return row_of_square < fold && row >= 0 && row < height && value >= 0 && value < row_values;
  }
  CONVOY_HOST_DEVICE const T* At(int32_t image, int32_t row, int32_t value) const {
    return from + (int64_t{image} * height + row) * row_values + value;
  }
};

template <typename T, int kWidth, bool kAtOnce>
void LaunchPack(Stream& stream, const Tensor& from, const Packing& packing, const Tensor& to) {
  const int64_t channels = from.shape[3];
  ForEach(
      stream, to.count() / kWidth,
      PackKernel<T, kWidth, kAtOnce>{.from = from.As<T>(),
                                     .to = to.As<T>(),
                                     .to_vectors = Divider(to.shape[3] / kWidth),
                                     .to_width = Divider(to.shape[2]),
                                     .to_height = Divider(to.shape[1]),
                                     .run = Divider(packing.fold * channels),
                                     .height = CheckedCount(from.shape[1]),
                                     .row_values = CheckedCount(from.shape[2] * channels),
                                     .top = packing.padding.top,
                                     .left_values = CheckedCount(packing.padding.left * channels),
                                     .fold = CheckedCount(packing.fold)});
}

// Returns whether `width` values of `to` always lie side by side in `from`, or are all zeros.
template <typename T>
bool LieTogether(const Tensor& from, const Packing& packing, const Tensor& to, int width) {
  const int64_t channels = from.shape[3];
  for (const int64_t values : {packing.fold * channels, packing.padding.left * channels,
                               from.shape[2] * channels, to.shape[3]}) {
    if (values % width != 0) return false;
  }
  return reinterpret_cast<uintptr_t>(from.data) % (static_cast<size_t>(width) * sizeof(T)) == 0;
}

// One thread per element of `to`. Bytes: each written, and read from a place of its own.
template <typename T>
struct UnpackKernel {
  const T* from;
  float* to;
  Divider channels, kernel, fold;
  int32_t from_kernel, from_channels;
  bool adds;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t channel = 0, column = 0, row = 0, square_column = 0, square_row = 0;
    const int32_t line = kernel.Split(channels.Split(i, &channel), &column);
    const int32_t out = kernel.Split(line, &row);
    const int32_t from_column = fold.Split(column, &square_column);
    const int32_t from_row = fold.Split(row, &square_row);
    const int64_t place = (int64_t{out} * from_kernel + from_row) * from_kernel + from_column;
    const int32_t place_of_square = square_row * fold.divisor() + square_column;
    const T value = from[place * from_channels + place_of_square * channels.divisor() + channel];
    to[i] = ToFloat(value) + (adds ? to[i] : 0.0f);
  }
};

}  // namespace

void PackImages(Stream& stream, const Tensor& from, const Packing& packing, const Tensor& to) {
  CONVOY_CHECK(from.shape.rank() == 4 && to.shape.rank() == 4 && from.shape[0] == to.shape[0] &&
                   packing.fold * packing.fold * from.shape[3] <= to.shape[3],
               "{} into {}", from.shape.ToString(), to.shape.ToString());
  ForType(to.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int kWidest = kVectorWidth<T>;
    if (LieTogether<T>(from, packing, to, kWidest)) {
      LaunchPack<T, kWidest, true>(stream, from, packing, to);
    } else if (LieTogether<T>(from, packing, to, 4)) {
      LaunchPack<T, 4, true>(stream, from, packing, to);
    } else if (to.shape[3] % kWidest == 0) {
      LaunchPack<T, kWidest, false>(stream, from, packing, to);
    } else {
      LaunchPack<T, 1, false>(stream, from, packing, to);
    }
  });
}

void UnpackGradient(Stream& stream, const Tensor& from, int64_t fold, bool adds, const Tensor& to) {
  const int64_t channels = to.shape[3];
  CONVOY_CHECK(from.shape[0] == to.shape[0] && from.shape[1] * fold >= to.shape[1] &&
                   fold * fold * channels <= from.shape[3],
               "{} into {}", from.shape.ToString(), to.shape.ToString());
  ForType(from.dtype, [&](auto type) {
    using T = decltype(type);
    ForEach(stream, to.count(),
            UnpackKernel<T>{.from = from.As<T>(),
                            .to = to.As<float>(),
                            .channels = Divider(channels),
                            .kernel = Divider(to.shape[1]),
                            .fold = Divider(fold),
                            .from_kernel = CheckedCount(from.shape[1]),
                            .from_channels = CheckedCount(from.shape[3]),
                            .adds = adds});
  });
}

}  // namespace convoy::cuda
