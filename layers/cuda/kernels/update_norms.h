// layers/cuda/kernels/update_norms.h - the norms that LARS and clipping take, and the factors that
// they make of them. The inside of update.cu.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/operations/norm_scales.h"

namespace convoy::cuda {

// Returns the last of `count` neighbours in `firsts`, which rise, that is `place` or before: of
// several that are equal, all but the last belong to empty ranges.
CONVOY_HOST_DEVICE inline int32_t RangeOf(const int32_t* firsts, int32_t count, int32_t place) {
  int32_t low = 0, high = count;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    (firsts[middle] <= place ? low : high) = middle;
  }
  return low;
}

// An UpdateRange as the device keeps it.
struct DevicePlace {
  int64_t begin;  // of the whole range, whose rows have norms
  int64_t update_begin, update_count, state_begin;
  int32_t first_row, row_elements;
  int32_t uncut_first_row, uncut_rows;
  int32_t adapts;
};

// NormScale as the device keeps it.
struct DeviceScale {
  float gradient, rate;
};

// One group per row of this rank's parameters. kSumsWeights: only LARS needs the norms of weights.
template <typename Rates, bool kSumsWeights>
struct RowSquaresKernel {
  const float* w;
  const float* g;
  const DevicePlace* places;
  const Rates* rates;
  const int32_t* first_rows;  // of each range, among this rank's rows
  int32_t range_count;
  double* gradient_squares;  // places of the table
  double* weight_squares;

  CONVOY_DEVICE void operator()(int32_t row, Group& group) const {
    const int32_t r = RangeOf(first_rows, range_count, row);
    if (rates[r].lr == 0) return;
    const DevicePlace& place = places[r];
    const int32_t in_range = row - first_rows[r];
    const int64_t begin = place.begin + int64_t{in_range} * place.row_elements;
    double gradient = 0, weight = 0;
    for (int32_t i = group.rank(); i < place.row_elements; i += group.size()) {
      const double gi = g[begin + i];
      gradient += gi * gi;
      if constexpr (kSumsWeights) {
        const double wi = w[begin + i];
        weight += wi * wi;
      }
    }
    gradient = group.Sum(gradient);
    if constexpr (kSumsWeights) weight = group.Sum(weight);
    if (group.rank() != 0) return;
    gradient_squares[place.first_row + in_range] = gradient;
    weight_squares[place.first_row + in_range] = weight;
  }
};

// Norm of `rows` neighbours in the table, in the same order on every rank.
CONVOY_DEVICE inline double NormOf(const double* squares, int32_t rows, Group& group) {
  double sum = 0;
  for (int32_t i = group.rank(); i < rows; i += group.size()) sum += squares[i];
  return std::sqrt(group.Sum(sum));
}

// Works out the factor of all gradients; layers/operations/norm_scales.cc has the same on the host.
struct ClipKernel {
  const double* gradient_squares;
  int32_t rows;
  double most;
  double* factor;

  CONVOY_DEVICE void operator()(int32_t, Group& group) const {
    const double norm = NormOf(gradient_squares, rows, group);
    if (group.rank() == 0)
      *factor = most > 0 && most < norm + kClipEpsilon ? most / (norm + kClipEpsilon) : 1;
  }
};

// Works out the factors of every range: one group each.
template <typename Rates>
struct ScaleKernel {
  const double* gradient_squares;
  const double* weight_squares;
  const DevicePlace* places;
  const Rates* rates;
  const double* clip;
  double eta;  // 0: the rule has no trust ratio
  DeviceScale* scales;

  CONVOY_DEVICE void operator()(int32_t r, Group& group) const {
    const DevicePlace& place = places[r];
    double rate = 1;
    if (eta > 0 && place.adapts != 0) {
      const double gradient =
          *clip * NormOf(gradient_squares + place.uncut_first_row, place.uncut_rows, group);
      const double weight = NormOf(weight_squares + place.uncut_first_row, place.uncut_rows, group);
      if (gradient > 0 && weight > 0) {
        rate = eta * weight / (gradient + static_cast<double>(rates[r].decay) * weight);
      }
    }
    if (group.rank() == 0) {
      scales[r] = {.gradient = static_cast<float>(*clip), .rate = static_cast<float>(rate)};
    }
  }
};

}  // namespace convoy::cuda
