#include <array>
#include <cmath>

#include "core/random.h"
#include "layers/backend.h"

namespace convoy {
namespace {

// Weight and bias of one layer draw from streams of their own.
uint32_t StreamOf(const ParameterInfo& parameter, int layer_index) {
  const bool is_weight = parameter.role == ParameterRole::kWeight;
  return 2 * static_cast<uint32_t>(layer_index) + (is_weight ? 0 : 1);
}

// Elements 2 * pair and 2 * pair + 1 of the uncut tensor.
std::array<double, 2> DrawPair(const ParameterInfo& parameter, const RandomKey& key, int64_t pair) {
  const Init& init = parameter.spec.init;
  const RandomWords words = RandomBlock(key, static_cast<uint32_t>(pair));
  const auto normals = [&](double deviation) -> std::array<double, 2> {
    const auto [first, second] = ToNormals(words);
    return {deviation * first, deviation * second};
  };
  const auto uniforms = [&](double bound) -> std::array<double, 2> {
    return {bound * (2 * ToUniform(words[0], words[1]) - 1),
            bound * (2 * ToUniform(words[2], words[3]) - 1)};
  };
  const auto fan_in = static_cast<double>(parameter.fan_in);
  switch (init.kind) {
    case InitKind::kConstant:
      return {init.value, init.value};
    case InitKind::kGaussian:
      return normals(init.value);
    case InitKind::kHe:
      return normals(std::sqrt(2 / fan_in));
    case InitKind::kXavier:
      return uniforms(std::sqrt(6 / (fan_in + static_cast<double>(parameter.fan_out))));
    case InitKind::kFanInUniform:
      return uniforms(1 / std::sqrt(fan_in));
  }
  return {};
}

template <typename T>
void Fill(const ParameterInfo& parameter, const RandomKey& key, int64_t first, int64_t count,
          T* values) {
  const int64_t end = first + count;
#pragma omp parallel for schedule(static)
  for (int64_t pair = first / 2; pair < (end + 1) / 2; ++pair) {
    const std::array<double, 2> drawn = DrawPair(parameter, key, pair);
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t element = 2 * pair + half;
      if (element < first || element >= end) continue;
      values[element - first] = static_cast<T>(drawn[static_cast<size_t>(half)]);
    }
  }
}

}  // namespace

void Initialize(const ParameterInfo& parameter, int layer_index, int64_t begin, uint64_t seed,
                const Tensor& values) {
  const RandomKey key{
      .seed = seed, .purpose = Purpose::kWeight, .stream = StreamOf(parameter, layer_index)};
  const int64_t first = begin * parameter.shape.DropFirst().count();
  if (values.dtype == DType::kFloat64) {
    Fill(parameter, key, first, values.count(), values.As<double>());
  } else {
    Fill(parameter, key, first, values.count(), values.As<float>());
  }
}

}  // namespace convoy
