// layers/cpu/lrn_kernel.h - local response normalisation of the channels of one place.
//
//   s[c] = k + A * sum over j in W(c) of x[j]^2,   y[c] = x[c] * s[c]^-beta
//   dx[c] = dy[c] * s[c]^-beta - 2 A beta x[c] * sum over j in W(c) of dy[j] * y[j] / s[j]
// Backward computes s again from x, so that forward keeps nothing. Cost per value, vectorised over
// the channels, forward and backward: two square roots and a division.
#pragma once

#include <cmath>

#include "layers/cpu/numbers.h"
#include "layers/spec.h"

namespace convoy::cpu {

class LrnKernel {
 public:
  LrnKernel(const Lrn& lrn, int64_t channels)
      : channels_(channels),
        groups_(lrn.groups),
        per_group_(channels / lrn.groups),
        half_(lrn.size / 2),
        factor_(static_cast<float>(lrn.SquareSumFactor())),
        beta_(static_cast<float>(lrn.beta)),
        k_(static_cast<float>(lrn.k)),
        is_paper_(lrn.size == 5 && lrn.beta == 0.75) {}

  // fp32 values that a thread must own, zero before the first call.
  int64_t scratch_count() const { return 2 * padded_count() + channels_; }

  // y = x normalised; y is fp32.
  template <typename T>
  void Forward(const T* x, float* y, float* scratch) const {
    if (is_paper_) {
      ForwardAs<5>(x, y, scratch, PaperPower{});
    } else {
      ForwardAs<0>(x, y, scratch, AnyPower{-beta_});
    }
  }

  // dy is fp32. mask_dx: dx is zero if x is not above zero.
  template <typename T>
  void Backward(const T* x, const float* dy, T* dx, bool mask_dx, float* scratch) const {
    if (is_paper_) {
      BackwardAs<5>(x, dy, dx, mask_dx, scratch, PaperPower{});
    } else {
      BackwardAs<0>(x, dy, dx, mask_dx, scratch, AnyPower{-beta_});
    }
  }

 private:
  // s^-beta and 1 / s. The paper's beta of 0.75 needs no call: with r = s^-1/2, r * r^1/2 and r^2.
  struct Powers {
    float to_minus_beta, inverse;
  };
  struct PaperPower {
    Powers operator()(float s) const {
      const float r = 1 / std::sqrt(s);
      return {r * std::sqrt(r), r * r};
    }
  };
  struct AnyPower {
    float exponent;
    Powers operator()(float s) const { return {std::pow(s, exponent), 1 / s}; }
  };

  // Values that windows run over stand in scratch with `half` zeros around every group.
  int64_t padded_count() const { return channels_ + half_ * (groups_ + 1); }
  int64_t PaddedStart(int64_t group) const { return half_ + group * (per_group_ + half_); }

  // Returns the sum over the window around `middle`; kSize 0 stands for any size.
  template <int kSize>
  float WindowSum(const float* middle) const {
    const int64_t half = kSize > 0 ? kSize / 2 : half_;
    float sum = 0;
    for (int64_t j = -half; j <= half; ++j) sum += middle[j];
    return sum;
  }

  template <typename T>
  void Square(const T* x, float* squares) const {
    for (int64_t group = 0; group < groups_; ++group) {
      const T* in = x + group * per_group_;
      float* out = squares + PaddedStart(group);
#pragma omp simd
      for (int64_t c = 0; c < per_group_; ++c) {
        const float value = Load(in + c);
        out[c] = value * value;
      }
    }
  }

  template <int kSize, typename T, typename Power>
  void ForwardAs(const T* x, float* y, float* squares, Power power) const {
    Square(x, squares);
    for (int64_t group = 0; group < groups_; ++group) {
      const T* in = x + group * per_group_;
      float* out = y + group * per_group_;
      const float* middle = squares + PaddedStart(group);
#pragma omp simd
      for (int64_t c = 0; c < per_group_; ++c) {
        const float s = k_ + factor_ * WindowSum<kSize>(middle + c);
        out[c] = Load(in + c) * power(s).to_minus_beta;
      }
    }
  }

  template <int kSize, typename T, typename Power>
  void BackwardAs(const T* x, const float* dy, T* dx, bool mask_dx, float* scratch,
                  Power power) const {
    float* squares = scratch;
    float* ratios = squares + padded_count();  // dy * y / s
    float* powers = ratios + padded_count();   // s^-beta
    Square(x, squares);
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t first = group * per_group_;
      const float* middle = squares + PaddedStart(group);
      float* ratio = ratios + PaddedStart(group);
#pragma omp simd
      for (int64_t c = 0; c < per_group_; ++c) {
        const float s = k_ + factor_ * WindowSum<kSize>(middle + c);
        const auto [to_minus_beta, inverse] = power(s);
        powers[first + c] = to_minus_beta;
        ratio[c] = dy[first + c] * Load(x + first + c) * to_minus_beta * inverse;
      }
    }
    const float slope = 2 * factor_ * beta_;
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t first = group * per_group_;
      const float* ratio = ratios + PaddedStart(group);
#pragma omp simd
      for (int64_t c = 0; c < per_group_; ++c) {
        const float value = Load(x + first + c);
        const float gradient =
            dy[first + c] * powers[first + c] - slope * value * WindowSum<kSize>(ratio + c);
        Store(ZeroUnless((value > 0) | !mask_dx, gradient), dx + first + c);
      }
    }
  }

  int64_t channels_, groups_, per_group_, half_;
  float factor_, beta_, k_;
  bool is_paper_;
};

}  // namespace convoy::cpu
