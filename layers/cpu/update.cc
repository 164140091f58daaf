#include "layers/cpu/update.h"

#include <omp.h>

#include <algorithm>
#include <bit>

#include "layers/cpu/numbers.h"

namespace convoy::cpu {
namespace {

// Threads share no cache line of any arena, not even of the bf16 copy.
constexpr int64_t kGrain = 32;

struct Arenas {
  float* w;
  float* v;
  const float* g;
  BFloat16* copy;  // null where there is none
};

struct Factors {
  float lr, momentum, decay;
};

struct PaperRule {
  static void Apply(const Factors& f, float g, float& w, float& v) {
    v = f.momentum * v - f.lr * (f.decay * w + g);
    w += v;
  }
};
struct TorchRule {
  static void Apply(const Factors& f, float g, float& w, float& v) {
    v = f.momentum * v + (g + f.decay * w);
    w -= f.lr * v;
  }
};

// Non-zero for Inf and NaN.
inline uint32_t NotFinite(float value) {
  constexpr uint32_t kExponent = 0x7F800000;
  return (std::bit_cast<uint32_t>(value) & kExponent) == kExponent ? 1 : 0;
}

// Returns whether anything in [begin, end) was not finite.
template <typename Rule, bool kHasCopy>
bool UpdateSpan(const Arenas& arenas, const Factors& factors, int64_t begin, int64_t end) {
  float* const w = arenas.w;
  float* const v = arenas.v;
  const float* const g = arenas.g;
  BFloat16* const copy = arenas.copy;
  uint32_t bad = 0;
#pragma omp simd reduction(| : bad)
  for (int64_t i = begin; i < end; ++i) {
    const float gradient = g[i];
    float weight = w[i];
    float velocity = v[i];
    Rule::Apply(factors, gradient, weight, velocity);
    w[i] = weight;
    v[i] = velocity;
    if constexpr (kHasCopy) Store(weight, copy + i);
    bad |= NotFinite(gradient) | NotFinite(weight);
  }
  return bad != 0;
}

template <typename Rule>
bool UpdateSpan(const Arenas& arenas, const Factors& factors, int64_t begin, int64_t end) {
  return arenas.copy != nullptr ? UpdateSpan<Rule, true>(arenas, factors, begin, end)
                                : UpdateSpan<Rule, false>(arenas, factors, begin, end);
}

}  // namespace

void UpdateParameters(const UpdateRequest& request, int threads) {
  int32_t* non_finite = request.non_finite.As<int32_t>();
  if (*non_finite != 0) return;
  const bool has_copy = request.compute.data != request.parameters.data;
  const Arenas arenas{.w = request.parameters.As<float>(),
                      .v = request.states.at(0).As<float>(),
                      .g = request.gradients.As<float>(),
                      .copy = has_copy ? request.compute.As<BFloat16>() : nullptr};
  int bad = 0;
#pragma omp parallel num_threads(threads) reduction(| : bad)
  for (const UpdateRange& range : request.ranges) {
    if (range.lr == 0) continue;
    const Factors factors{.lr = static_cast<float>(range.lr),
                          .momentum = static_cast<float>(range.momentum),
                          .decay = static_cast<float>(range.weight_decay)};
    const Part grains =
        PartOf((range.count + kGrain - 1) / kGrain, omp_get_thread_num(), omp_get_num_threads());
    const int64_t begin = range.begin + grains.begin * kGrain;
    const int64_t end = range.begin + std::min(range.count, grains.end * kGrain);
    const bool is_bad = request.rule == UpdateRule::kPaper
                            ? UpdateSpan<PaperRule>(arenas, factors, begin, end)
                            : UpdateSpan<TorchRule>(arenas, factors, begin, end);
    bad |= is_bad ? 1 : 0;
  }
  if (bad != 0) *non_finite = 1;
}

void RoundToBFloat16(const Tensor& parameters, const Tensor& compute, int threads) {
  const float* from = parameters.As<float>();
  BFloat16* to = compute.As<BFloat16>();
  const int64_t count = parameters.count();
  CONVOY_CHECK(compute.count() == count, "{} and {}", count, compute.count());
#pragma omp parallel for simd num_threads(threads) schedule(static)
  for (int64_t i = 0; i < count; ++i) to[i] = BFloat16(from[i]);
}

}  // namespace convoy::cpu
