#include <cmath>

#include "core/random.h"
#include "layers/layers.h"

namespace convoy {
namespace {

// Weight and bias of one layer draw from streams of their own.
uint32_t StreamOf(const ParameterInfo& parameter, int layer_index) {
  const bool is_weight = parameter.name.ends_with(".weight");
  return 2 * static_cast<uint32_t>(layer_index) + (is_weight ? 0 : 1);
}

// Element `element` of the uncut tensor.
double Draw(const Init& init, const ParameterInfo& parameter, const RandomKey& key,
            int64_t element) {
  const auto normal = [&] {
    const RandomWords words = RandomBlock(key, static_cast<uint32_t>(element / 2));
    return ToNormals(words)[static_cast<size_t>(element % 2)];
  };
  const auto uniform = [&](double bound) {
    const RandomWords words = RandomBlock(key, static_cast<uint32_t>(element / 2));
    const size_t half = 2 * static_cast<size_t>(element % 2);
    return bound * (2 * ToUniform(words[half], words[half + 1]) - 1);
  };
  const auto fan_in = static_cast<double>(parameter.fan_in);
  switch (init.kind) {
    case InitKind::kConstant:
      return init.value;
    case InitKind::kGaussian:
      return init.value * normal();
    case InitKind::kHe:
      return std::sqrt(2 / fan_in) * normal();
    case InitKind::kXavier:
      return uniform(std::sqrt(6 / (fan_in + static_cast<double>(parameter.fan_out))));
    case InitKind::kFanInUniform:
      return uniform(1 / std::sqrt(fan_in));
  }
  return 0;
}

template <typename T>
void Fill(const ParameterInfo& parameter, const RandomKey& key, int64_t first, int64_t count,
          T* values) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<T>(Draw(parameter.spec.init, parameter, key, first + i));
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
