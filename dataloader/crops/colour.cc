#include "dataloader/crops/colour.h"

#include "core/random.h"

namespace convoy {

std::array<ColourComponent, 3> ColourComponents(ColourNoise noise) {
  switch (noise) {
    case ColourNoise::kNone:
      break;
    case ColourNoise::k2012:
      return {{{121.7801, {-0.563510, -0.576184, -0.592003}},
               {37.0939, {-0.712579, -0.023542, 0.701196}},
               {19.7208, {0.417955, -0.816981, 0.397311}}}};
    case ColourNoise::kLighting:
      return {{{255 * 0.2175, {-0.5675, -0.5808, -0.5836}},
               {255 * 0.0188, {0.7192, -0.0045, -0.6948}},
               {255 * 0.0045, {0.4009, -0.8140, 0.4203}}}};
  }
  return {};
}

std::array<float, 3> DrawColourShift(ColourNoise noise, double strength, uint64_t seed,
                                     int64_t epoch, int64_t position) {
  if (noise == ColourNoise::kNone || strength == 0) return {0, 0, 0};
  const RandomKey key{.seed = seed,
                      .purpose = Purpose::kColour,
                      .epoch = static_cast<uint32_t>(epoch),
                      .position = static_cast<uint64_t>(position)};
  const std::array<double, 2> first = ToNormals(RandomBlock(key, 0));
  const double normals[3] = {first[0], first[1], ToNormals(RandomBlock(key, 1))[0]};
  const std::array<ColourComponent, 3> components = ColourComponents(noise);
  std::array<float, 3> shift{};
  for (size_t channel = 0; channel < 3; ++channel) {
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) {
      sum += normals[i] * components[i].size * components[i].direction[channel];
    }
    shift[channel] = static_cast<float>(strength * sum);
  }
  return shift;
}

float ColourScale(ColourNoise noise, double strength) {
  return noise == ColourNoise::k2012 ? static_cast<float>(1 / (1 + strength)) : 1.0f;
}

}  // namespace convoy
