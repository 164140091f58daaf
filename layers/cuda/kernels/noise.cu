// Values to measure products on. Bytes: the tensor, written; a few integer operations per value.
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/product_kernels.h"

namespace convoy::cuda {
namespace {

// Between -1 and 1, from the number of the value: the last step of MurmurHash3.
CONVOY_HOST_DEVICE inline float NoiseOf(uint32_t number) {
  uint32_t bits = number + 1;
  bits = (bits ^ (bits >> 16)) * 0x85EBCA6Bu;
  bits = (bits ^ (bits >> 13)) * 0xC2B2AE35u;
  bits ^= bits >> 16;
  return static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-31f;
}

// One thread per kWidth values.
template <typename T, int kWidth>
struct NoiseKernel {
  T* to;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const uint32_t first = static_cast<uint32_t>(i) * kWidth;
    float values[kWidth];
    for (int j = 0; j < kWidth; ++j) values[j] = NoiseOf(first + static_cast<uint32_t>(j));
    StoreVector<kWidth>(values, to + int64_t{i} * kWidth);
  }
};

}  // namespace

void FillWithNoise(Stream& stream, const Tensor& tensor) {
  ForType(tensor.dtype, [&](auto type) {
    using T = decltype(type);
    ForWidth<T>(tensor.count(), [&](auto width) {
      ForEach(stream, tensor.count() / width, NoiseKernel<T, width()>{tensor.As<T>()});
    });
  });
}

}  // namespace convoy::cuda
