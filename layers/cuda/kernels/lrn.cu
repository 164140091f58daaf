// LRN that no max pooling follows.
//
// Bytes per value, in the network's type: forward reads x and writes y; backward reads x and dy and
// writes dx. Flops per value of the paper's numbers: forward 12, 2 of them roots; backward 26
// (bf16, 8 channels per thread) to 33 (fp32, 4), as neighbouring threads compute the scales beside
// their own again.
#include "layers/cuda/kernels/lrn_math.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

template <typename T, typename Norm, int kWidth>
struct LrnForward {
  Norm norm;
  Divider vectors;  // per place
  const T* x;
  T* y;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t vector;
    vectors.Split(i, &vector);
    const int64_t offset = int64_t{i} * kWidth;
    float values[kWidth];
    norm.template Forward<kWidth>(x + offset, vector * kWidth, values);
    StoreVector<kWidth>(values, y + offset);
  }
};

template <typename T>
struct GradientOfPlace {
  const T* dy;  // of the place's first channel

  template <int kWidth, int kHalo>
  CONVOY_HOST_DEVICE void Load(int32_t channel, Neighbours neighbours, float* to) const {
    LoadWithHalo<kWidth, kHalo>(dy + channel, neighbours, to);
  }
};

template <typename T, typename Norm, int kWidth>
struct LrnBackward {
  Norm norm;
  Divider vectors;  // per place
  const T* x;
  const T* dy;
  bool mask;
  T* dx;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t vector;
    vectors.Split(i, &vector);
    const int32_t channel = vector * kWidth;
    const int64_t offset = int64_t{i} * kWidth;
    norm.template Backward<kWidth>(x + offset, channel, GradientOfPlace<T>{dy + offset - channel},
                                   mask, dx + offset);
  }
};

template <typename T, typename Norm, int kWidth>
class LrnOperation final : public Operation {
 public:
  LrnOperation(const Norm& norm, const Wiring& wiring)
      : norm_(norm), wiring_(wiring), vectors_(wiring.x.shape[3] / kWidth) {
    // A thread reads dy beside what it writes.
    CONVOY_CHECK(!wiring.dx || wiring.dx.data != wiring.dy.data, "{} in place", wiring.name);
  }

  void Forward(const StepContext& context) override {
    ForEach(
        *context.stream, wiring_.x.count() / kWidth,
        LrnForward<T, Norm, kWidth>{
            .norm = norm_, .vectors = vectors_, .x = wiring_.x.As<T>(), .y = wiring_.y.As<T>()});
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    ForEach(*context.stream, wiring_.x.count() / kWidth,
            LrnBackward<T, Norm, kWidth>{.norm = norm_,
                                         .vectors = vectors_,
                                         .x = wiring_.x.As<T>(),
                                         .dy = wiring_.dy.As<T>(),
                                         .mask = wiring_.mask_dx,
                                         .dx = wiring_.dx.As<T>()});
  }

 private:
  Norm norm_;
  Wiring wiring_;
  Divider vectors_;
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Lrn& lrn, const Wiring& wiring,
                                         const OperationResources&) {
  return ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    return ForLrn<T>(
        lrn, wiring.x.shape[3], [&](const auto& norm, auto width) -> std::unique_ptr<Operation> {
          using Norm = std::decay_t<decltype(norm)>;
          return std::make_unique<LrnOperation<T, Norm, decltype(width)::value>>(norm, wiring);
        });
  });
}

}  // namespace convoy::cuda
