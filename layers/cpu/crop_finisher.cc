#include "layers/cpu/crop_finisher.h"

#include <cstddef>
#include <utility>

#include "core/error.h"

namespace convoy::cpu {
namespace {

constexpr int64_t kMaxShifts = 3;

size_t Index(int64_t i) { return static_cast<size_t>(i); }

// kChannels 0 stands for any number.
template <int kChannels>
void MirrorPixels(const uint8_t* line, int64_t width, int64_t any_channels, uint8_t* mirrored) {
  const int64_t channels = kChannels > 0 ? kChannels : any_channels;
  for (int64_t w = 0; w < width; ++w) {
    const uint8_t* from = line + (width - 1 - w) * channels;
    for (int64_t c = 0; c < channels; ++c) mirrored[w * channels + c] = from[c];
  }
}

}  // namespace

CropFinisher::CropFinisher(const Shape& crop, std::vector<float> mean,
                           std::vector<float> standard_deviation)
    : height_(crop[0]),
      width_(crop[1]),
      channels_(crop[2]),
      line_(width_ * channels_),
      mean_(std::move(mean)),
      standard_deviation_(std::move(standard_deviation)),
      factors_(Index(line_)) {
  const auto means = static_cast<int64_t>(mean_.size());
  const auto deviations = static_cast<int64_t>(standard_deviation_.size());
  has_mean_image_ = means == crop.count() && means != channels_;
  CONVOY_CHECK(means == 0 || means == channels_ || has_mean_image_, "{} mean values for {}", means,
               crop.ToString());
  CONVOY_CHECK(deviations == 0 || deviations == channels_, "{} standard deviations for {}",
               deviations, crop.ToString());
  CONVOY_CHECK(channels_ <= kMaxShifts, "{} channels", channels_);
  no_mean_.resize(has_mean_image_ ? 0 : Index(line_));
  SetScale(1);
}

CropFinisher::Scratch CropFinisher::MakeScratch() const {
  return {std::vector<float>(Index(line_)), std::vector<uint8_t>(Index(line_))};
}

void CropFinisher::SetScale(float colour_scale) {
  if (colour_scale == scale_) return;
  scale_ = colour_scale;
  for (int64_t i = 0; i < line_; ++i) {
    const float deviation =
        standard_deviation_.empty() ? 1 : standard_deviation_[Index(i % channels_)];
    factors_[Index(i)] = colour_scale / deviation;
  }
}

void CropFinisher::Finish(const uint8_t* pixels, const SampleInfo& sample, Scratch& scratch,
                          float* out) const {
  FinishCrop(pixels, sample, scratch, out);
}

void CropFinisher::Finish(const uint8_t* pixels, const SampleInfo& sample, Scratch& scratch,
                          BFloat16* out) const {
  FinishCrop(pixels, sample, scratch, out);
}

template <typename T>
void CropFinisher::FinishCrop(const uint8_t* pixels, const SampleInfo& sample, Scratch& scratch,
                              T* out) const {
  FillOffsets(sample, scratch.offsets);
  for (int64_t h = 0; h < height_; ++h, pixels += line_, out += line_) {
    const uint8_t* line = pixels;
    if (sample.mirror != 0) {
      Mirror(pixels, scratch.mirrored.data());
      line = scratch.mirrored.data();
    }
    const float* mean = has_mean_image_ ? mean_.data() + h * line_ : no_mean_.data();
    const float* offsets = scratch.offsets.data();
    const float* factors = factors_.data();
    for (int64_t i = 0; i < line_; ++i) {
      out[i] = T((static_cast<float>(line[i]) - mean[i] + offsets[i]) * factors[i]);
    }
  }
}

void CropFinisher::FillOffsets(const SampleInfo& sample, std::vector<float>& offsets) const {
  const bool has_channel_means = !has_mean_image_ && !mean_.empty();
  for (int64_t i = 0; i < line_; ++i) {
    const int64_t c = i % channels_;
    offsets[Index(i)] = sample.colour_shift[c] - (has_channel_means ? mean_[Index(c)] : 0);
  }
}

void CropFinisher::Mirror(const uint8_t* line, uint8_t* mirrored) const {
  if (channels_ == 3) {
    MirrorPixels<3>(line, width_, channels_, mirrored);
  } else {
    MirrorPixels<0>(line, width_, channels_, mirrored);
  }
}

}  // namespace convoy::cpu
