// Images and weights in the sizes that the vendor's kernels are fast at: few channels filled up
// with zeros, and padding that differs between the sides written out. Bytes per place of the
// result: its channels written, those that are not zero read; no flops.
#include "layers/cuda/numbers.h"
#include "layers/cuda/product_kernels.h"

namespace convoy::cuda {
namespace {

// One thread per kWidth channels of a place of `to`.
template <typename T, int kWidth>
struct PackKernel {
  const T* from;
  T* to;
  Divider to_vectors, to_width, to_height;
  int32_t height, width, channels, top, left;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t vector = 0, column = 0, row = 0;
    const int32_t place = to_vectors.Split(i, &vector);
    const int32_t line = to_width.Split(place, &column);
    const int32_t image = to_height.Split(line, &row);
    row -= top;
    column -= left;
    float values[kWidth] = {};
    if (row >= 0 && row < height && column >= 0 && column < width) {
      const int32_t begin = vector * kWidth;
      const T* source =
          from + ((int64_t{image} * height + row) * width + column) * channels + begin;
      for (int j = 0; j < kWidth; ++j) {
        if (begin + j < channels) values[j] = ToFloat(source[j]);
      }
    }
    StoreVector<kWidth>(values, to + int64_t{i} * kWidth);
  }
};

template <typename T, int kWidth>
void LaunchPack(Stream& stream, const Tensor& from, const Padding& padding, const Tensor& to) {
  ForEach(stream, to.count() / kWidth,
          PackKernel<T, kWidth>{.from = from.As<T>(),
                                .to = to.As<T>(),
                                .to_vectors = Divider(to.shape[3] / kWidth),
                                .to_width = Divider(to.shape[2]),
                                .to_height = Divider(to.shape[1]),
                                .height = CheckedCount(from.shape[1]),
                                .width = CheckedCount(from.shape[2]),
                                .channels = CheckedCount(from.shape[3]),
                                .top = padding.top,
                                .left = padding.left});
}

template <typename T>
struct UnpackKernel {
  const T* from;
  float* to;
  Divider to_channels;
  int32_t from_channels;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t channel = 0;
    const int32_t place = to_channels.Split(i, &channel);
    to[i] = ToFloat(from[int64_t{place} * from_channels + channel]);
  }
};

}  // namespace

void PackImages(Stream& stream, const Tensor& from, const Padding& padding, const Tensor& to) {
  CONVOY_CHECK(from.shape.rank() == 4 && to.shape.rank() == 4 && from.shape[0] == to.shape[0] &&
                   from.shape[3] <= to.shape[3],
               "{} into {}", from.shape.ToString(), to.shape.ToString());
  ForType(to.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int kWidest = kVectorWidth<T>;
    if (to.shape[3] % kWidest == 0) {
      LaunchPack<T, kWidest>(stream, from, padding, to);
    } else if (to.shape[3] % 4 == 0) {
      LaunchPack<T, 4>(stream, from, padding, to);
    } else {
      LaunchPack<T, 1>(stream, from, padding, to);
    }
  });
}

void UnpackGradient(Stream& stream, const Tensor& from, const Tensor& to) {
  const int64_t channels = to.shape.back();
  CONVOY_CHECK(from.count() / from.shape.back() == to.count() / channels, "{} into {}",
               from.shape.ToString(), to.shape.ToString());
  ForType(from.dtype, [&](auto type) {
    using T = decltype(type);
    ForEach(stream, to.count(),
            UnpackKernel<T>{.from = from.As<T>(),
                            .to = to.As<float>(),
                            .to_channels = Divider(channels),
                            .from_channels = CheckedCount(from.shape.back())});
  });
}

}  // namespace convoy::cuda
