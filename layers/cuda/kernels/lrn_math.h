// layers/cuda/kernels/lrn_math.h - local response normalisation of some channels of one place, in a
// kernel.
//
//   s[c] = k + A * sum over j in W(c) of x[j]^2,   y[c] = x[c] * s[c]^-beta
//   dx[c] = dy[c] * s[c]^-beta - 2 A beta x[c] * sum over j in W(c) of dy[j] * y[j] / s[j]
// A thread has kWidth neighbouring channels and loads what its windows need of the channels beside
// them, which other threads of its warp load too: from the first-level cache. Backward computes s
// again from x, so that forward keeps nothing.
//
// Sums of products are written as fma, so that the compiler cannot round them one way in one kernel
// and another way in the next.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "layers/cuda/kernels/numbers.h"
#include "layers/spec.h"

namespace convoy::cuda {

// Whether there are more channels of the same group beside a thread's own.
struct Neighbours {
  bool left = false, right = false;
};

// to[0 .. kHalo + kWidth + kHalo) = from[-kHalo .. kWidth + kHalo); zeros if no neighbours are.
// kHalo divides kWidth.
template <int kWidth, int kHalo, typename T>
CONVOY_HOST_DEVICE inline void LoadWithHalo(const T* from, Neighbours neighbours, float* to) {
  LoadVector<kWidth>(from, to + kHalo);
  if constexpr (kHalo > 0) {
    for (int i = 0; i < kHalo; ++i) to[i] = to[kHalo + kWidth + i] = 0;
    if (neighbours.left) LoadVector<kHalo>(from - kHalo, to);
    if (neighbours.right) LoadVector<kHalo>(from + kWidth, to + kHalo + kWidth);
  }
}

// Writes the gradient of kWidth channels. mask: zero if x is not above zero.
template <int kWidth, typename T>
CONVOY_HOST_DEVICE inline void StoreGradient(const float* x, float* gradient, bool mask, T* dx) {
  for (int c = 0; c < kWidth; ++c) gradient[c] = mask && !(x[c] > 0) ? 0 : gradient[c];
  StoreVector<kWidth>(gradient, dx);
}

// Within 2^-22 on the device, one instruction in place of the four that rsqrtf takes for subnormal
// numbers: an s is below 2^-126 only if k is.
CONVOY_HOST_DEVICE inline float InverseSquareRoot(float value) {
#ifdef __CUDA_ARCH__
  float result;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return 1 / std::sqrt(value);
#endif
}

// s^-beta and 1 / s.
struct LrnPowers {
  float to_minus_beta, inverse;
};

struct LrnNumbers {
  LrnNumbers(const Lrn& lrn, int64_t channels)
      : per_group(channels / lrn.groups),
        half(lrn.size / 2),
        factor(static_cast<float>(lrn.SquareSumFactor())),
        beta(static_cast<float>(lrn.beta)),
        k(static_cast<float>(lrn.k)),
        slope(2 * factor * beta) {}

  Divider per_group;
  int32_t half;
  float factor, beta, k, slope;
};

// Stands in for LRN if there is none. A `Gradient` gives dy:
//   Load<kWidth, kHalo>(channel, neighbours, to), to as LoadWithHalo has it.
struct NoLrn {
  // Channels on either side whose dy Backward asks for.
  static constexpr int kGradientHalo = 0;

  template <int kWidth>
  CONVOY_HOST_DEVICE Neighbours NeighboursOf(int32_t) const {
    return {};
  }
  // y = x normalised, for kWidth channels from `channel` on; `x` points at the first of them.
  template <int kWidth, typename T>
  CONVOY_HOST_DEVICE void Forward(const T* x, int32_t, float* y) const {
    LoadVector<kWidth>(x, y);
  }
  template <int kWidth, typename T, typename Gradient>
  CONVOY_HOST_DEVICE void Backward(const T* x, int32_t channel, const Gradient& dy, bool mask,
                                   T* dx) const {
    float values[kWidth] = {}, gradient[kWidth];
    dy.template Load<kWidth, 0>(channel, {}, gradient);
    if (mask) LoadVector<kWidth>(x, values);
    StoreGradient<kWidth>(values, gradient, mask, dx);
  }
};

// The paper's numbers: windows of 5, beta 0.75. kWidth is a multiple of 4 and divides the channels
// of a group.
//
// Instructions, not bytes, bound kernels that do more than this for a value. Two neighbouring
// windows share the sum of the four channels in both: with two products shared between sums of
// four, a window costs less than three instructions of the five that it takes by itself.
class PaperLrn {
 public:
  static constexpr int kGradientHalo = 2;

  explicit PaperLrn(const LrnNumbers& numbers) : numbers_(numbers) {}

  template <int kWidth, typename T>
  CONVOY_HOST_DEVICE void Forward(const T* x, int32_t channel, float* y) const {
    float values[kWidth + 2 * kHalf], squares[kWidth];
    LoadWithHalo<kWidth, kHalf>(x, NeighboursOf<kWidth>(channel), values);
    SumWindows<kWidth>(values, values, squares);
    for (int c = 0; c < kWidth; ++c) {
      y[c] = values[c + kHalf] * PowersOf(squares[c]).to_minus_beta;
    }
  }

  template <int kWidth, typename T, typename Gradient>
  CONVOY_HOST_DEVICE void Backward(const T* x, int32_t channel, const Gradient& dy, bool mask,
                                   T* dx) const {
    constexpr int kRatios = kWidth + 2 * kHalf;
    const Neighbours neighbours = NeighboursOf<kWidth>(channel);
    float values[kWidth + 4 * kHalf], gradient[kRatios], squares[kRatios];
    LoadWithHalo<kWidth, 2 * kHalf>(x, neighbours, values);
    dy.template Load<kWidth, kHalf>(channel, neighbours, gradient);
    SumWindows<kRatios>(values, values, squares);
    float products[kRatios], inverses[kRatios], sums[kWidth];  // of dy * y / s
    for (int c = 0; c < kRatios; ++c) {
      const LrnPowers powers = PowersOf(squares[c]);
      gradient[c] *= powers.to_minus_beta;
      products[c] = gradient[c] * values[c + kHalf];
      inverses[c] = powers.inverse;
    }
    SumWindows<kWidth>(products, inverses, sums);
    for (int c = 0; c < kWidth; ++c) {
      gradient[c + kHalf] =
          std::fma(-numbers_.slope * values[c + 2 * kHalf], sums[c], gradient[c + kHalf]);
    }
    StoreGradient<kWidth>(values + 2 * kHalf, gradient + kHalf, mask, dx);
  }

  template <int kWidth>
  CONVOY_HOST_DEVICE Neighbours NeighboursOf(int32_t channel) const {
    static_assert(kWidth % (2 * kHalf) == 0);
    int32_t in_group;
    numbers_.per_group.Split(channel, &in_group);
    return {in_group > 0, in_group + kWidth < numbers_.per_group.divisor()};
  }

 private:
  static constexpr int kSize = 5, kHalf = kSize / 2;

  // sums[c] = the sum of a[j] * b[j] over the kSize values from c on, for kCount of them.
  template <int kCount>
  CONVOY_HOST_DEVICE static void SumWindows(const float* a, const float* b, float* sums) {
    static_assert(kCount % 2 == 0 && kSize == 5);
    const auto pair = [&](int j) { return std::fma(a[j + 1], b[j + 1], a[j] * b[j]); };
    float left = pair(1);
    for (int c = 0; c < kCount; c += 2) {
      const float right = pair(c + 3);
      const float shared = left + right;
      sums[c] = std::fma(a[c], b[c], shared);
      sums[c + 1] = std::fma(a[c + kSize], b[c + kSize], shared);
      left = right;
    }
  }

  // s^-3/4 and 1 / s without a call: with r = s^-1/2, they are r^2 * r^-1/2 and r^2.
  CONVOY_HOST_DEVICE LrnPowers PowersOf(float squares) const {
    const float r = InverseSquareRoot(std::fma(numbers_.factor, squares, numbers_.k));
    return {r * r * InverseSquareRoot(r), r * r};
  }

  LrnNumbers numbers_;
};

// Windows of any size and any beta, one channel per thread. Backward computes the s of a whole
// window for every channel.
class AnyLrn {
 public:
  explicit AnyLrn(const LrnNumbers& numbers) : numbers_(numbers) {}

  template <int kWidth, typename T>
  CONVOY_HOST_DEVICE void Forward(const T* x, int32_t channel, float* y) const {
    static_assert(kWidth == 1);
    *y = ToFloat(*x) * PowersOf(x, WindowOf(channel)).to_minus_beta;
  }

  template <int kWidth, typename T, typename Gradient>
  CONVOY_HOST_DEVICE void Backward(const T* x, int32_t channel, const Gradient& dy, bool mask,
                                   T* dx) const {
    static_assert(kWidth == 1);
    const Window window = WindowOf(channel);
    float sum = 0, scaled = 0;
    for (int32_t j = window.first; j <= window.last; ++j) {
      const LrnPowers powers = PowersOf(x + j, WindowOf(channel + j));
      float gradient;
      dy.template Load<1, 0>(channel + j, {}, &gradient);
      gradient *= powers.to_minus_beta;
      sum += gradient * ToFloat(x[j]) * powers.inverse;
      if (j == 0) scaled = gradient;
    }
    const float value = ToFloat(*x);
    float gradient = std::fma(-numbers_.slope * value, sum, scaled);
    StoreGradient<1>(&value, &gradient, mask, dx);
  }

 private:
  // Around a channel, cut at the edges of its group: from `first` <= 0 to `last` >= 0.
  struct Window {
    int32_t first, last;
  };
  CONVOY_HOST_DEVICE Window WindowOf(int32_t channel) const {
    int32_t in_group;
    numbers_.per_group.Split(channel, &in_group);
    return {-std::min(numbers_.half, in_group),
            std::min(numbers_.half, numbers_.per_group.divisor() - 1 - in_group)};
  }

  template <typename T>
  CONVOY_HOST_DEVICE LrnPowers PowersOf(const T* middle, const Window& window) const {
    float sum = 0;
    for (int32_t j = window.first; j <= window.last; ++j) {
      const float value = ToFloat(middle[j]);
      sum = std::fma(value, value, sum);
    }
    const float s = std::fma(numbers_.factor, sum, numbers_.k);
    return {std::pow(s, -numbers_.beta), 1 / s};
  }

  LrnNumbers numbers_;
};

// visit(PaperLrn or AnyLrn, std::integral_constant of the channels per thread), for values of T.
template <typename T, typename Visit>
decltype(auto) ForLrn(const Lrn& lrn, int64_t channels, Visit&& visit) {
  constexpr int kWidest = kVectorWidth<T>;
  const LrnNumbers numbers(lrn, channels);
  if (lrn.size == 5 && lrn.beta == 0.75 && channels / lrn.groups % kWidest == 0) {
    return visit(PaperLrn(numbers), std::integral_constant<int, kWidest>{});
  }
  return visit(AnyLrn(numbers), std::integral_constant<int, 1>{});
}

}  // namespace convoy::cuda
