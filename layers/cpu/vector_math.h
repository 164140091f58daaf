// layers/cpu/vector_math.h - exp and its relatives without branches or calls, so that loops around
// them are vectorised. Errors below 3e-7 relative, measured over the whole range; a NaN stays a
// NaN.
#pragma once

#include <bit>
#include <cstdint>

namespace convoy::cpu {

// e^x = 2^n * (1 + m): n = round(x / ln 2), m = e^r - 1 with |r| <= ln(2) / 2.
struct SplitExponential {
  float power, m;
};

// x in [-87, 88]; outside, as at the nearer end.
inline SplitExponential SplitExp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves no bits for a fraction
  const float n = (x * 1.44269504f + kRounder) - kRounder;
  // ln 2 in two parts, the first with few enough bits for n times it to be exact.
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  const float m = r + r * r * p;
  const float power =
      std::bit_cast<float>(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
  return {power, m};
}

// e^x; below -87 it is e^-87, above 88 e^88.
inline float Exp(float x) {
  const SplitExponential split = SplitExp(x);
  return split.power + split.power * split.m;
}

// e^x - 1, exact in its leading digits near 0 too.
inline float ExpMinusOne(float x) {
  const SplitExponential split = SplitExp(x);
  return (split.power - 1) + split.power * split.m;
}

inline float Sigmoid(float x) { return 1 / (1 + Exp(-x)); }

inline float Tanh(float x) {
  // Beyond 10 the result is 1 to the last bit; the quotient must not become inf / inf.
  x = x > 10.0f ? 10.0f : x;
  const float e = ExpMinusOne(2 * x);
  return e / (e + 2);
}

}  // namespace convoy::cpu
