#include "layers/cpu/input_stage.h"

#include <omp.h>

#include <vector>

#include "layers/cpu/crop_finisher.h"
#include "layers/cpu/numbers.h"
#include "layers/operations/host_rows.h"

namespace convoy::cpu {
namespace {

class CpuInputStage final : public InputStage {
 public:
  CpuInputStage(const InputOptions& options, int threads)
      : options_(options),
        finisher_(options.crop, options.mean, options.standard_deviation),
        scratch_(static_cast<size_t>(threads), finisher_.MakeScratch()),
        rows_(options.batch) {}

  void Load(Stream&, const Batch& batch, const Tensor& x) override {
    CONVOY_CHECK(batch.shape == options_.crop.Prepend(options_.batch) && x.shape == batch.shape &&
                     x.dtype == options_.dtype,
                 "batch {} into {} {}, expected {} of {}", batch.shape.ToString(), NameOf(x.dtype),
                 x.shape.ToString(), options_.batch, options_.crop.ToString());
    rows_.Load(batch.samples);
    finisher_.SetScale(batch.colour_scale);
    ForType(x.dtype, [&](auto type) { LoadImages(batch, x.As<decltype(type)>()); });
  }

  RowInfo rows() const override { return rows_.info(); }

 private:
  template <typename T>
  void LoadImages(const Batch& batch, T* x) {
    const auto* pixels = static_cast<const uint8_t*>(batch.pixels.data());
    const int64_t crop = options_.crop.count();
#pragma omp parallel for num_threads(static_cast <int>(scratch_.size())) schedule(static)
    for (int64_t n = 0; n < options_.batch; ++n) {
      finisher_.Finish(pixels + n * crop, batch.samples[static_cast<size_t>(n)],
                       scratch_[static_cast<size_t>(omp_get_thread_num())], x + n * crop);
    }
  }

  InputOptions options_;
  CropFinisher finisher_;
  std::vector<CropFinisher::Scratch> scratch_;  // per thread
  HostRows rows_;
};

}  // namespace

std::unique_ptr<InputStage> MakeInputStage(const InputOptions& options, int threads) {
  return std::make_unique<CpuInputStage>(options, threads);
}

}  // namespace convoy::cpu
