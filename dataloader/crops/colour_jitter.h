// dataloader/crops/colour_jitter.h - random brightness, contrast and saturation of a finished crop.
#pragma once

#include <array>
#include <cstdint>

#include "dataloader/crop_options.h"
#include "dataloader/crops/crop_plan.h"

namespace convoy {

enum class JitterStep : uint8_t { kBrightness, kContrast, kSaturation };

struct JitterDraw {
  std::array<JitterStep, 3> order;
  // By step: how much of the crop stays, in units of 1 / 2^16; the rest is black, grey, grey.
  std::array<int32_t, 3> factors;
};

// A function of the key alone: not of the crop.
JitterDraw DrawJitter(const ColourJitter& jitter, const CropKey& key);

// Changes uint8 [pixels, channels] in place, by one step after the other, each rounded to whole
// levels and cut to 0..255: as Pillow's ImageEnhance does it, in integers. One channel has no
// saturation.
void ApplyJitter(const JitterDraw& draw, int64_t pixels, int channels, uint8_t* crop);

}  // namespace convoy
