#include "dataloader/crops/colour.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "dataloader/images/image.h"

namespace convoy {
namespace {

constexpr int kFactorBits = 16;
constexpr int32_t kOne = 1 << kFactorBits;

// Returns factor * value + (1 - factor) * other, rounded.
uint8_t Blend(int32_t factor, int value, int other) {
  const int64_t mixed = int64_t{factor} * value + int64_t{kOne - factor} * other;
  return static_cast<uint8_t>(std::clamp<int64_t>((mixed + kOne / 2) >> kFactorBits, 0, 255));
}

int GreyOf(const uint8_t* pixel, int channels) {
  return channels == 1 ? pixel[0] : Luma(pixel[0], pixel[1], pixel[2]);
}

int MeanGrey(const uint8_t* crop, int64_t pixels, int channels) {
  int64_t sum = 0;
  for (int64_t i = 0; i < pixels; ++i) sum += GreyOf(crop + i * channels, channels);
  return static_cast<int>((sum + pixels / 2) / pixels);
}

}  // namespace

// --- PCA noise -----------------------------------------------------------------------------------

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

std::array<float, 3> DrawColourShift(ColourNoise noise, double strength, const CropKey& key) {
  if (noise == ColourNoise::kNone || strength == 0) return {0, 0, 0};
  const std::array<double, 2> first = ToNormals(DrawFor(Purpose::kColour, key, 0));
  const double normals[3] = {first[0], first[1], ToNormals(DrawFor(Purpose::kColour, key, 1))[0]};
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

// --- Jitter --------------------------------------------------------------------------------------

JitterDraw DrawJitter(const ColourJitter& jitter, const CropKey& key) {
  const RandomWords words = DrawFor(Purpose::kJitter, key);
  const double strengths[3] = {jitter.brightness, jitter.contrast, jitter.saturation};
  JitterDraw draw{
      .order = {JitterStep::kBrightness, JitterStep::kContrast, JitterStep::kSaturation},
      .factors = {}};
  for (size_t i = 0; i < 3; ++i) {
    const double least = std::max(0.0, 1 - strengths[i]), most = 1 + strengths[i];
    const double factor = least + (most - least) * static_cast<double>(ToUniform(words[i]));
    draw.factors[i] = static_cast<int32_t>(std::lround(factor * kOne));
  }
  // Draws one of the six orders.
  const uint32_t order = ToBelow(words[3], 6);
  std::swap(draw.order[0], draw.order[order % 3]);
  if (order >= 3) std::swap(draw.order[1], draw.order[2]);
  return draw;
}

void ApplyJitter(const JitterDraw& draw, int64_t pixels, int channels, uint8_t* crop) {
  for (const JitterStep step : draw.order) {
    const int32_t factor = draw.factors[static_cast<size_t>(step)];
    if (factor == kOne || (step == JitterStep::kSaturation && channels == 1)) continue;
    if (step == JitterStep::kSaturation) {
      for (int64_t i = 0; i < pixels; ++i) {
        uint8_t* pixel = crop + i * channels;
        const int grey = GreyOf(pixel, channels);
        for (int c = 0; c < channels; ++c) pixel[c] = Blend(factor, pixel[c], grey);
      }
      continue;
    }
    // A level becomes the same other level at every place, so 256 blends and look-ups are enough.
    const int other = step == JitterStep::kContrast ? MeanGrey(crop, pixels, channels) : 0;
    std::array<uint8_t, 256> levels;
    for (int level = 0; level < 256; ++level) {
      levels[static_cast<size_t>(level)] = Blend(factor, level, other);
    }
    for (int64_t i = 0; i < pixels * channels; ++i) crop[i] = levels[crop[i]];
  }
}

}  // namespace convoy
