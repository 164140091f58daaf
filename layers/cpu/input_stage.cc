#include "layers/cpu/input_stage.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "layers/cpu/numbers.h"
#include "layers/host_rows.h"

namespace convoy::cpu {
namespace {

// Every factor of core/batch.h's formula is spread over a line of W * C values once, so that the
// loop over the pixels is one fused multiply-add per value, channels or not.
class CpuInputStage final : public InputStage {
 public:
  CpuInputStage(const InputOptions& options, int threads)
      : options_(options),
        threads_(threads),
        width_(options.crop[1]),
        channels_(options.crop[2]),
        line_(width_ * channels_),
        rows_(options.batch),
        factors_(static_cast<size_t>(line_)) {
    const auto mean_count = static_cast<int64_t>(options.mean.size());
    const auto deviation_count = static_cast<int64_t>(options.standard_deviation.size());
    has_mean_image_ = mean_count == options.crop.count() && mean_count != channels_;
    CONVOY_CHECK(mean_count == 0 || mean_count == channels_ || has_mean_image_,
                 "{} mean values for {}", mean_count, options.crop.ToString());
    CONVOY_CHECK(deviation_count == 0 || deviation_count == channels_,
                 "{} standard deviations for {}", deviation_count, options.crop.ToString());
    CONVOY_CHECK(channels_ <= kMaxShifts, "{} channels", channels_);
    no_mean_.resize(has_mean_image_ ? 0 : static_cast<size_t>(line_));
    for (int thread = 0; thread < threads; ++thread) {
      scratch_.push_back({std::vector<float>(static_cast<size_t>(line_)),
                          std::vector<uint8_t>(static_cast<size_t>(line_))});
    }
  }

  void Load(Stream&, const Batch& batch, const Tensor& x) override {
    CONVOY_CHECK(batch.shape == options_.crop.Prepend(options_.batch) && x.shape == batch.shape &&
                     x.dtype == options_.dtype,
                 "batch {} into {} {}, expected {} of {}", batch.shape.ToString(), NameOf(x.dtype),
                 x.shape.ToString(), options_.batch, options_.crop.ToString());
    rows_.Load(batch.samples);
    for (int64_t i = 0; i < line_; ++i) {
      const int64_t c = i % channels_;
      const float deviation =
          options_.standard_deviation.empty() ? 1 : options_.standard_deviation[Index(c)];
      factors_[Index(i)] = batch.colour_scale / deviation;
    }
    ForType(x.dtype, [&](auto type) { LoadImages(batch, x.As<decltype(type)>()); });
  }

  RowInfo rows() const override { return rows_.info(); }

 private:
  static constexpr int64_t kMaxShifts = 3;

  struct Scratch {
    std::vector<float> offsets;     // of one sample: colour shift, less the channels' means
    std::vector<uint8_t> mirrored;  // one line
  };

  static size_t Index(int64_t i) { return static_cast<size_t>(i); }

  template <typename T>
  void LoadImages(const Batch& batch, T* x) {
    const auto* pixels = static_cast<const uint8_t*>(batch.pixels.data());
    const int64_t height = options_.crop[0];
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int64_t n = 0; n < options_.batch; ++n) {
      Scratch& scratch = scratch_[static_cast<size_t>(omp_get_thread_num())];
      const SampleInfo& sample = batch.samples[Index(n)];
      FillOffsets(sample, scratch.offsets);
      for (int64_t h = 0; h < height; ++h) {
        const uint8_t* line = pixels + (n * height + h) * line_;
        if (sample.mirror != 0) {
          Mirror(line, scratch.mirrored.data());
          line = scratch.mirrored.data();
        }
        const float* mean = has_mean_image_ ? options_.mean.data() + h * line_ : no_mean_.data();
        T* out = x + (n * height + h) * line_;
        const float* offsets = scratch.offsets.data();
        const float* factors = factors_.data();
#pragma omp simd
        for (int64_t i = 0; i < line_; ++i) {
          Store((static_cast<float>(line[i]) - mean[i] + offsets[i]) * factors[i], out + i);
        }
      }
    }
  }

  void FillOffsets(const SampleInfo& sample, std::vector<float>& offsets) const {
    const bool has_channel_means = !has_mean_image_ && !options_.mean.empty();
    for (int64_t i = 0; i < line_; ++i) {
      const int64_t c = i % channels_;
      offsets[Index(i)] =
          sample.colour_shift[c] - (has_channel_means ? options_.mean[Index(c)] : 0);
    }
  }

  void Mirror(const uint8_t* line, uint8_t* mirrored) const {
    if (channels_ == 3) {
      MirrorPixels<3>(line, mirrored);
    } else {
      MirrorPixels<0>(line, mirrored);
    }
  }
  // kChannels 0 stands for any number.
  template <int kChannels>
  void MirrorPixels(const uint8_t* line, uint8_t* mirrored) const {
    const int64_t channels = kChannels > 0 ? kChannels : channels_;
    for (int64_t w = 0; w < width_; ++w) {
      const uint8_t* from = line + (width_ - 1 - w) * channels;
      for (int64_t c = 0; c < channels; ++c) mirrored[w * channels + c] = from[c];
    }
  }

  InputOptions options_;
  int threads_;
  int64_t width_, channels_, line_;
  bool has_mean_image_ = false;
  HostRows rows_;
  std::vector<float> factors_;    // by place in a line
  std::vector<float> no_mean_;    // zeros, where there is no mean image
  std::vector<Scratch> scratch_;  // per thread
};

}  // namespace

std::unique_ptr<InputStage> MakeInputStage(const InputOptions& options, int threads) {
  return std::make_unique<CpuInputStage>(options, threads);
}

}  // namespace convoy::cpu
