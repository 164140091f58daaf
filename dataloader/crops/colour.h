// dataloader/crops/colour.h - random changes of colour: PCA noise (paper, section 4.1), and
// brightness, contrast and saturation.
#pragma once

#include <array>
#include <cstdint>

#include "dataloader/crop_options.h"
#include "dataloader/crops/crop_plan.h"

namespace convoy {

// --- PCA noise -----------------------------------------------------------------------------------

// A principal component of the colours of ImageNet's pixels.
struct ColourComponent {
  double size = 0;                  // factor of the draw, in units of the 0..255 pixel
  std::array<double, 3> direction;  // R, G, B; of length 1
};
// Returns the components. k2012: the standard deviations that the 2012 code was shipped with.
// kLighting: the constants of later ports, which multiply by the variance on the 0..1 scale
// instead; they are 2.2, 7.7 and 17 times weaker.
std::array<ColourComponent, 3> ColourComponents(ColourNoise noise);

// Returns what is added to R, G, B of an image: `strength` times a standard normal value of each
// component, summed.
std::array<float, 3> DrawColourShift(ColourNoise noise, double strength, const CropKey& key);

// Returns 1 / (1 + strength) for k2012, whose code scaled images so that their spread stays the
// same, and 1 for the others.
float ColourScale(ColourNoise noise, double strength);

// --- Jitter --------------------------------------------------------------------------------------

enum class JitterStep : uint8_t { kBrightness, kContrast, kSaturation };

struct JitterDraw {
  std::array<JitterStep, 3> order;
  // For each step: how much of the crop stays, in units of 1 / 2^16; the rest is black, grey, grey.
  std::array<int32_t, 3> factors;
};
// Draws a jitter: a function of the key only, not of the crop.
JitterDraw DrawJitter(const ColourJitter& jitter, const CropKey& key);

// Changes uint8 [pixels, channels] in place, one step after the other. Each step rounds to whole
// levels and cuts to 0..255, as Pillow's ImageEnhance does, in integers. One channel has no
// saturation.
void ApplyJitter(const JitterDraw& draw, int64_t pixels, int channels, uint8_t* crop);

}  // namespace convoy
