// dataloader/crops/colour.h - PCA colour noise (paper, section 4.1): what is added to R, G, B of an
// image.
#pragma once

#include <array>
#include <cstdint>

#include "dataloader/crop_options.h"

namespace convoy {

// A principal component of the colours of ImageNet's pixels.
struct ColourComponent {
  double size = 0;                  // what the draw is multiplied by, in units of the 0..255 pixel
  std::array<double, 3> direction;  // R, G, B; of length 1
};

// k2012: the standard deviations that the 2012 code was shipped with. kLighting: the constants of
// later ports, who multiply by the variance on the 0..1 scale instead; 2.2, 7.7 and 17 times
// weaker.
std::array<ColourComponent, 3> ColourComponents(ColourNoise noise);

// `strength` times a standard normal value of each component, added up.
std::array<float, 3> DrawColourShift(ColourNoise noise, double strength, uint64_t seed,
                                     int64_t epoch, int64_t position);

// 1 / (1 + strength) for k2012: the 2012 code scaled images so that their spread stays the same.
float ColourScale(ColourNoise noise, double strength);

}  // namespace convoy
