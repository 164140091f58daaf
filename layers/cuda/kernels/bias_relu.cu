// Bias and ReLU after products whose kernel has neither. Bytes per element: one read, one written,
// of the element's type; 2 flops.
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/product_kernels.h"

namespace convoy::cuda {
namespace {

// One thread per kWidth channels of a place.
template <typename T, int kWidth>
struct BiasReluKernel {
  const float* bias;  // null if there is none
  T* y;
  Divider vectors_per_place;
  bool relu;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t vector = 0;
    vectors_per_place.Split(i, &vector);
    T* place = y + int64_t{i} * kWidth;
    float values[kWidth];
    LoadVector<kWidth>(place, values);
    for (int j = 0; j < kWidth; ++j) {
      if (bias != nullptr) values[j] += bias[vector * kWidth + j];
      if (relu && values[j] < 0) values[j] = 0;
    }
    StoreVector<kWidth>(values, place);
  }
};

template <int kWidth, typename T>
void Launch(Stream& stream, const Tensor& bias, bool relu, const Tensor& y) {
  ForEach(stream, y.count() / kWidth,
          BiasReluKernel<T, kWidth>{.bias = bias ? bias.As<float>() : nullptr,
                                    .y = y.As<T>(),
                                    .vectors_per_place = Divider(y.shape.back() / kWidth),
                                    .relu = relu});
}

}  // namespace

void AddBiasRelu(Stream& stream, const Tensor& bias, bool relu, const Tensor& y) {
  CONVOY_CHECK(!bias || bias.count() == y.shape.back(), "bias {} of {}", bias.shape.ToString(),
               y.shape.ToString());
  ForType(y.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int kWidest = kVectorWidth<T>;
    if (y.shape.back() % kWidest == 0) {
      Launch<kWidest, T>(stream, bias, relu, y);
    } else {
      Launch<1, T>(stream, bias, relu, y);
    }
  });
}

}  // namespace convoy::cuda
