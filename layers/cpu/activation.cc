// Activations that could not be fused. They run in place if the plan allows it, so that x below
// may hold y: its sign, which is all that a derivative asks of it, is the same (plan.cc keeps the
// kinds apart if it is not).
#include "layers/cpu/numbers.h"
#include "layers/cpu/operation.h"
#include "layers/cpu/vector_math.h"

namespace convoy::cpu {
namespace {

struct ReluFunction {
  static float Value(float x, float) { return x > 0 ? x : 0; }
  static float Derivative(float x, float, float) { return x > 0 ? 1 : 0; }
};
struct TanhFunction {
  static float Value(float x, float) { return Tanh(x); }
  static float Derivative(float, float y, float) { return 1 - y * y; }
};
struct SigmoidFunction {
  static float Value(float x, float) { return Sigmoid(x); }
  static float Derivative(float, float y, float) { return y * (1 - y); }
};
struct LeakyReluFunction {
  static float Value(float x, float slope) { return x > 0 ? x : slope * x; }
  static float Derivative(float x, float, float slope) { return x > 0 ? 1 : slope; }
};
struct EluFunction {
  static float Value(float x, float slope) { return x > 0 ? x : slope * ExpMinusOne(x); }
  static float Derivative(float x, float y, float slope) { return x > 0 ? 1 : y + slope; }
};

template <typename T, typename Function>
class ActivationOperation final : public Operation {
 public:
  ActivationOperation(float slope, const Wiring& wiring)
      : wiring_(wiring), slope_(slope), count_(wiring.x.count()) {}

  void Forward(const StepContext&) override {
    const T* x = wiring_.x.As<T>();
    T* y = wiring_.y.As<T>();
    const float slope = slope_;
#pragma omp parallel for simd num_threads(wiring_.threads) schedule(static)
    for (int64_t i = 0; i < count_; ++i) Store(Function::Value(Load(x + i), slope), y + i);
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    const bool is_done = wiring_.dy_is_masked && wiring_.dx.data == wiring_.dy.data;
    if (!request.wants_dx || is_done) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    const T* x = wiring_.x.As<T>();
    const T* y = wiring_.y.As<T>();
    const T* dy = wiring_.dy.As<T>();
    T* dx = wiring_.dx.As<T>();
    const float slope = slope_;
#pragma omp parallel for simd num_threads(wiring_.threads) schedule(static)
    for (int64_t i = 0; i < count_; ++i) {
      Store(Load(dy + i) * Function::Derivative(Load(x + i), Load(y + i), slope), dx + i);
    }
  }

 private:
  Wiring wiring_;
  float slope_;
  int64_t count_;
};

template <typename T>
using ReluOperation = ActivationOperation<T, ReluFunction>;
template <typename T>
using TanhOperation = ActivationOperation<T, TanhFunction>;
template <typename T>
using SigmoidOperation = ActivationOperation<T, SigmoidFunction>;
template <typename T>
using LeakyReluOperation = ActivationOperation<T, LeakyReluFunction>;
template <typename T>
using EluOperation = ActivationOperation<T, EluFunction>;

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Activation& activation, const Wiring& wiring,
                                         OneDnn&) {
  const auto slope = static_cast<float>(activation.slope);
  const DType dtype = wiring.x.dtype;
  switch (activation.kind) {
    case ActivationKind::kRelu:
      return MakeForType<ReluOperation>(dtype, slope, wiring);
    case ActivationKind::kTanh:
      return MakeForType<TanhOperation>(dtype, slope, wiring);
    case ActivationKind::kSigmoid:
      return MakeForType<SigmoidOperation>(dtype, slope, wiring);
    case ActivationKind::kLeakyRelu:
      return MakeForType<LeakyReluOperation>(dtype, slope, wiring);
    case ActivationKind::kElu:
      return MakeForType<EluOperation>(dtype, slope, wiring);
  }
  return nullptr;
}

void MaskGradient(const Tensor& y, const Tensor& g, int threads) {
  CONVOY_CHECK(y.dtype == g.dtype && y.count() == g.count(), "{} and {}", y.shape.ToString(),
               g.shape.ToString());
  ForType(y.dtype, [&](auto type) {
    using T = decltype(type);
    const T* outputs = y.As<T>();
    T* gradients = g.As<T>();
    const int64_t count = y.count();
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) {
      Store(ZeroUnless(Load(outputs + i) > 0, Load(gradients + i)), gradients + i);
    }
  });
}

}  // namespace convoy::cpu
