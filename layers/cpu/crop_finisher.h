// layers/cpu/crop_finisher.h - the formula of core/tensor/batch.h: uint8 crops to fp32 or bf16.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/batch.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"

namespace convoy::cpu {

class CropFinisher {
 public:
  // `crop` is [H, W, C], C <= 3. `mean` holds H * W * C values, C values, or none;
  // `standard_deviation` holds C values, or none.
  CropFinisher(const Shape& crop, std::vector<float> mean, std::vector<float> standard_deviation);

  // One thread's memory.
  struct Scratch {
    std::vector<float> offsets;     // of one sample: colour shift, less the channels' means
    std::vector<uint8_t> mirrored;  // one line
  };
  Scratch MakeScratch() const;

  // Sets the colour_scale (> 0) of the batch that the next crops belong to. It is 1 at first.
  void SetScale(float colour_scale);
  // Writes the finished values of one crop. Thread-safe, with a scratch for each thread.
  void Finish(const uint8_t* pixels, const SampleInfo& sample, Scratch& scratch, float* out) const;
  void Finish(const uint8_t* pixels, const SampleInfo& sample, Scratch& scratch,
              BFloat16* out) const;

 private:
  template <typename T>
  void FinishCrop(const uint8_t* pixels, const SampleInfo& sample, Scratch& scratch, T* out) const;
  void FillOffsets(const SampleInfo& sample, std::vector<float>& offsets) const;
  void Mirror(const uint8_t* line, uint8_t* mirrored) const;

  int64_t height_, width_, channels_, line_;
  std::vector<float> mean_, standard_deviation_;
  bool has_mean_image_ = false;
  // Every factor of the formula is spread over a line of W * C values once, so that the loop over
  // the pixels is one fused multiply-add per value, channels or not.
  std::vector<float> factors_;
  float scale_ = 0;             // factors_ were made for this one
  std::vector<float> no_mean_;  // a line of zeros, if there is no mean image
};

}  // namespace convoy::cpu
