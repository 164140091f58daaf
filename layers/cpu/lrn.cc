// LRN that no max pooling follows.
#include <omp.h>

#include <vector>

#include "layers/cpu/lrn_kernel.h"
#include "layers/cpu/operation.h"

namespace convoy::cpu {
namespace {

template <typename T>
class LrnOperation final : public Operation {
 public:
  LrnOperation(const Lrn& lrn, const Wiring& wiring)
      : kernel_(lrn, wiring.x.shape[3]),
        wiring_(wiring),
        channels_(wiring.x.shape[3]),
        places_(wiring.x.count() / channels_) {
    const int64_t floats = kernel_.scratch_count() + channels_;
    for (int thread = 0; thread < wiring.threads; ++thread) {
      scratch_.push_back(AllocateHost(floats * SizeOf(DType::kFloat32)));
    }
  }

  void Forward(const StepContext&) override {
    const T* x = wiring_.x.As<T>();
    T* y = wiring_.y.As<T>();
    ForEachPlace([&](int64_t offset, float* values, float* scratch) {
      kernel_.Forward(x + offset, values, scratch);
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) Store(values[c], y + offset + c);
    });
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    const T* x = wiring_.x.As<T>();
    const T* dy = wiring_.dy.As<T>();
    T* dx = wiring_.dx.As<T>();
    ForEachPlace([&](int64_t offset, float* values, float* scratch) {
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) values[c] = Load(dy + offset + c);
      kernel_.Backward(x + offset, values, dx + offset, wiring_.mask_dx, scratch);
    });
  }

 private:
  // visit(offset of the place's first channel, room for `channels` values, the kernel's scratch)
  template <typename Visit>
  void ForEachPlace(Visit&& visit) const {
#pragma omp parallel num_threads(wiring_.threads)
    {
      const int thread = omp_get_thread_num();
      float* scratch = static_cast<float*>(scratch_[static_cast<size_t>(thread)].data());
      float* values = scratch + kernel_.scratch_count();
      const Part part = PartOf(places_, thread, omp_get_num_threads());
      for (int64_t place = part.begin; place < part.end; ++place) {
        visit(place * channels_, values, scratch);
      }
    }
  }

  LrnKernel kernel_;
  Wiring wiring_;
  int64_t channels_, places_;
  std::vector<Buffer> scratch_;  // per thread
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Lrn& lrn, const Wiring& wiring, OneDnn&) {
  return MakeForType<LrnOperation>(wiring.x.dtype, lrn, wiring);
}

}  // namespace convoy::cpu
