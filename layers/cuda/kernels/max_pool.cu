// Max pooling, with LRN before it in the same pass if a network has the two in a row. Forward
// keeps the tap of each maximum and no LRN output; backward computes the normalisation again.
//
// Bytes, AlexNet's 3 x 3 windows with stride 2, in values of the network's type per value of x:
//   forward   x once, y a quarter, and a byte of tap per y
//   backward  x and dx once, dy a quarter, the taps; without LRN and mask no x
// What neighbouring windows share is read again, from the caches. Flops per value of x, with the
// paper's LRN: forward 16, backward 30 to 36 (the wider a thread, the fewer).
//
// Counted in the code for sm_90, bf16, 8 channels of a place with LRN take some 180 instructions
// forward and 365 backward, while the bytes leave time for 150 and 260: instructions are what these
// kernels save. Not measured.
#include <algorithm>
#include <memory>
#include <type_traits>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/lrn_math.h"
#include "layers/cuda/kernels/max_pool_kernels.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/overlapping_max_pool.h"
#include "layers/cuda/kernels/pooling.h"

namespace convoy::cuda {
namespace {

// Returns how many rows of windows a thread walks down: a few, if that leaves threads enough to
// fill the device.
int64_t WindowsPerThread(const Shape& outputs, int width, int device) {
  constexpr int64_t kThreadsPerMultiprocessor = 1024, kLongest = 8;
  const int64_t threads = kThreadsPerMultiprocessor * FactsOf(device).multiprocessors;
  const int64_t longest =
      std::clamp<int64_t>(outputs.count() / width / threads, 1, std::min(kLongest, outputs[1]));
  const int64_t walks = (outputs[1] + longest - 1) / longest;
  return (outputs[1] + walks - 1) / walks;
}

template <typename T, int kWidth, typename Norm, typename ForwardKernel, typename BackwardKernel>
class MaxPoolOperation final : public Operation {
 public:
  MaxPoolOperation(const Norm& norm, const Pool& pool, const Wiring& wiring, int device)
      : norm_(norm),
        wiring_(wiring),
        kernel_(pool.kernel),
        windows_per_thread_(
            WindowsPerThread(wiring.y.shape, ForwardKernel::kColumns * kWidth, device)),
        rows_(pool, Axis::kHeight, wiring.x.shape[1], wiring.y.shape[1]),
        columns_(pool, Axis::kWidth, wiring.x.shape[2], wiring.y.shape[2]) {
    CONVOY_CHECK(kernel_ * kernel_ <= UINT16_MAX, "kernel {}", kernel_);
    if (wiring.dx) {
      taps_ = AllocateDevice(device, wiring.y.count() * static_cast<int64_t>(sizeof(Tap)));
    }
  }

  void Forward(const StepContext& context) override {
    const Shape& shape = wiring_.y.shape;
    const int64_t walks = (shape[1] + windows_per_thread_ - 1) / windows_per_thread_;
    const int64_t groups = (shape[2] + ForwardKernel::kColumns - 1) / ForwardKernel::kColumns;
    const PlaceThreads threads(shape.With(1, walks).With(2, groups), kWidth);
    ForEach(*context.stream, threads.count(),
            ForwardKernel{.norm = norm_,
                          .rows = rows_,
                          .columns = columns_,
                          .inputs = Images(wiring_.x.shape),
                          .outputs = Images(shape),
                          .threads = threads,
                          .kernel = kernel_,
                          .windows_per_thread = static_cast<int32_t>(windows_per_thread_),
                          .x = wiring_.x.As<T>(),
                          .y = wiring_.y.As<T>(),
                          .taps = static_cast<Tap*>(taps_.data())});
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    const PlaceThreads threads(BackwardKernel::ThreadsOf(wiring_.x.shape, rows_, columns_), kWidth);
    ForEach(*context.stream, threads.count(),
            BackwardKernel{.norm = norm_,
                           .rows = rows_,
                           .columns = columns_,
                           .inputs = Images(wiring_.x.shape),
                           .outputs = Images(wiring_.y.shape),
                           .threads = threads,
                           .kernel = kernel_,
                           .mask = wiring_.mask_dx,
                           .x = wiring_.x.As<T>(),
                           .dy = wiring_.dy.As<T>(),
                           .taps = static_cast<const Tap*>(taps_.data()),
                           .dx = wiring_.dx.As<T>()});
  }

 private:
  using Tap = typename ForwardKernel::Tap;

  Norm norm_;
  Wiring wiring_;
  int32_t kernel_;
  int64_t windows_per_thread_;
  PoolAxis rows_, columns_;
  Buffer taps_;
};

template <typename T, int kWidth, typename Norm>
std::unique_ptr<Operation> MakeWith(const Norm& norm, const Pool& pool, const Wiring& wiring,
                                    int device) {
  if constexpr (!std::is_same_v<Norm, AnyLrn>) {
    if (pool.kernel == 3 && pool.stride == 2) {
      return std::make_unique<
          MaxPoolOperation<T, kWidth, Norm, OverlappingMaxPoolForward<T, Norm, kWidth>,
                           OverlappingMaxPoolBackward<T, Norm, kWidth>>>(norm, pool, wiring,
                                                                         device);
    }
  }
  return std::make_unique<MaxPoolOperation<T, kWidth, Norm, MaxPoolForward<T, Norm, kWidth>,
                                           MaxPoolBackward<T, Norm, kWidth>>>(norm, pool, wiring,
                                                                              device);
}

}  // namespace

std::unique_ptr<Operation> MakeMaxPool(const Pool& pool, const Wiring& wiring,
                                       const OperationResources& resources) {
  return ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    const auto make = [&](const auto& norm, auto width) {
      return MakeWith<T, decltype(width)::value>(norm, pool, wiring, resources.device);
    };
    const int64_t channels = wiring.x.shape[3];
    if (wiring.lrn) return ForLrn<T>(*wiring.lrn, channels, make);
    return ForWidth<T>(channels, [&](auto width) { return make(NoLrn{}, width); });
  });
}

}  // namespace convoy::cuda
