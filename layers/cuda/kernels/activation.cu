// Activations that could not be fused. They run in place if the plan allows it, so that x below
// may hold y: its sign, which is all that a derivative asks of it, is the same (operation_plan.cc
// keeps the kinds apart if it is not).
//
// Bytes per value, in the network's type: forward reads one value and writes one; backward reads dy
// and x, or y, or both, and writes dx. Flops: 1 to 3, and about 20 for tanh, exp and expm1.
#include <cmath>

#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

struct ReluFunction {
  CONVOY_HOST_DEVICE static float Value(float x, float) { return x > 0 ? x : 0; }
  CONVOY_HOST_DEVICE static float Derivative(float x, float, float) { return x > 0 ? 1 : 0; }
};
struct TanhFunction {
  CONVOY_HOST_DEVICE static float Value(float x, float) { return std::tanh(x); }
  CONVOY_HOST_DEVICE static float Derivative(float, float y, float) { return 1 - y * y; }
};
struct SigmoidFunction {
  CONVOY_HOST_DEVICE static float Value(float x, float) { return 1 / (1 + std::exp(-x)); }
  CONVOY_HOST_DEVICE static float Derivative(float, float y, float) { return y * (1 - y); }
};
struct LeakyReluFunction {
  CONVOY_HOST_DEVICE static float Value(float x, float slope) { return x > 0 ? x : slope * x; }
  CONVOY_HOST_DEVICE static float Derivative(float x, float, float slope) {
    return x > 0 ? 1 : slope;
  }
};
struct EluFunction {
  CONVOY_HOST_DEVICE static float Value(float x, float slope) {
    return x > 0 ? x : slope * std::expm1(x);
  }
  CONVOY_HOST_DEVICE static float Derivative(float x, float y, float slope) {
    return x > 0 ? 1 : y + slope;
  }
};

template <typename T, typename Function, int kWidth>
struct ActivationForward {
  float slope;
  const T* x;
  T* y;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const int64_t offset = int64_t{i} * kWidth;
    float values[kWidth];
    LoadVector<kWidth>(x + offset, values);
    for (int c = 0; c < kWidth; ++c) values[c] = Function::Value(values[c], slope);
    StoreVector<kWidth>(values, y + offset);
  }
};

// What the derivative does not use of x and y is not loaded.
template <typename T, typename Function, int kWidth>
struct ActivationBackward {
  float slope;
  const T* x;
  const T* y;
  const T* dy;
  T* dx;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const int64_t offset = int64_t{i} * kWidth;
    float inputs[kWidth], outputs[kWidth], gradient[kWidth];
    LoadVector<kWidth>(x + offset, inputs);
    LoadVector<kWidth>(y + offset, outputs);
    LoadVector<kWidth>(dy + offset, gradient);
    for (int c = 0; c < kWidth; ++c) {
      gradient[c] *= Function::Derivative(inputs[c], outputs[c], slope);
    }
    StoreVector<kWidth>(gradient, dx + offset);
  }
};

template <typename T, typename Function, int kWidth>
class ActivationOperation final : public Operation {
 public:
  ActivationOperation(float slope, const Wiring& wiring) : wiring_(wiring), slope_(slope) {}

  void Forward(const StepContext& context) override {
    ForEach(*context.stream, wiring_.x.count() / kWidth,
            ActivationForward<T, Function, kWidth>{
                .slope = slope_, .x = wiring_.x.As<T>(), .y = wiring_.y.As<T>()});
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    const bool is_done = wiring_.dy_is_masked && wiring_.dx.data == wiring_.dy.data;
    if (!request.wants_dx || is_done) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    ForEach(*context.stream, wiring_.x.count() / kWidth,
            ActivationBackward<T, Function, kWidth>{.slope = slope_,
                                                    .x = wiring_.x.As<T>(),
                                                    .y = wiring_.y.As<T>(),
                                                    .dy = wiring_.dy.As<T>(),
                                                    .dx = wiring_.dx.As<T>()});
  }

 private:
  Wiring wiring_;
  float slope_;
};

template <typename Function>
std::unique_ptr<Operation> Make(float slope, const Wiring& wiring) {
  return ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    return ForWidth<T>(wiring.x.count(), [&](auto width) -> std::unique_ptr<Operation> {
      return std::make_unique<ActivationOperation<T, Function, decltype(width)::value>>(slope,
                                                                                        wiring);
    });
  });
}

// Bytes per value: y and g read, g written.
template <typename T, int kWidth>
struct MaskGradientKernel {
  const T* y;
  T* g;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const int64_t offset = int64_t{i} * kWidth;
    float outputs[kWidth], gradient[kWidth];
    LoadVector<kWidth>(y + offset, outputs);
    LoadVector<kWidth>(g + offset, gradient);
    for (int c = 0; c < kWidth; ++c) gradient[c] = outputs[c] > 0 ? gradient[c] : 0;
    StoreVector<kWidth>(gradient, g + offset);
  }
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Activation& activation, const Wiring& wiring,
                                         const OperationResources&) {
  const auto slope = static_cast<float>(activation.slope);
  switch (activation.kind) {
    case ActivationKind::kRelu:
      return Make<ReluFunction>(slope, wiring);
    case ActivationKind::kTanh:
      return Make<TanhFunction>(slope, wiring);
    case ActivationKind::kSigmoid:
      return Make<SigmoidFunction>(slope, wiring);
    case ActivationKind::kLeakyRelu:
      return Make<LeakyReluFunction>(slope, wiring);
    case ActivationKind::kElu:
      return Make<EluFunction>(slope, wiring);
  }
  return nullptr;
}

void MaskGradient(Stream& stream, const Tensor& y, const Tensor& g) {
  CONVOY_CHECK(y.dtype == g.dtype && y.count() == g.count(), "{} and {}", y.shape.ToString(),
               g.shape.ToString());
  ForType(y.dtype, [&](auto type) {
    using T = decltype(type);
    ForWidth<T>(y.count(), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      ForEach(stream, y.count() / kWidth,
              MaskGradientKernel<T, kWidth>{.y = y.As<T>(), .g = g.As<T>()});
    });
  });
}

}  // namespace convoy::cuda
