// layers/cuda/kernels/channel_sums.h - sums per channel over all places of an activation [..., C].
//
// In two stages, both in a fixed order: threads sum parts of the places, neighbouring threads
// neighbouring channels, so that loads are coalesced; then a group of threads per sum adds the
// parts. How places are parted depends only on the shape, not on the device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device/memory.h"
#include "layers/cuda/kernels/numbers.h"

namespace convoy::cuda {

// So many places are summed in the terms' own type before the sum is added to the fp64 one. Their
// loads are under way at the same time.
constexpr int kPlaceBlock = 8;

class PlaceParts {
 public:
  // `columns`: threads side by side over the channels of one place.
  PlaceParts(int64_t places, int64_t columns) : places_(CheckedCount(places)) {
    // Four groups on each of an H200's 132 multiprocessors keep its memory busy; the parts' sums
    // stay a small part of the traffic.
    constexpr int64_t kThreads = 1 << 17;
    const int64_t most = std::max<int64_t>(1, kThreads / columns);
    places_per_part_ =
        static_cast<int32_t>(RoundUp((places + most - 1) / most, int64_t{kPlaceBlock}));
    parts_ = static_cast<int32_t>((places + places_per_part_ - 1) / places_per_part_);
  }

  CONVOY_HOST_DEVICE int32_t parts() const { return parts_; }
  CONVOY_HOST_DEVICE int32_t Begin(int32_t part) const { return part * places_per_part_; }
  CONVOY_HOST_DEVICE int32_t End(int32_t part) const {
    const int32_t end = Begin(part) + places_per_part_;
    return end < places_ ? end : places_;
  }

 private:
  int32_t places_, places_per_part_ = 0, parts_ = 0;
};

// One thread per part and column of Terms::kWidth channels. Terms::Add(place, channel, sums) adds
// what a place gives to sums[kSums][kWidth], of type Terms::Sum.
template <typename Terms>
struct SumPartsKernel {
  static constexpr int kCount = Terms::kSums * Terms::kWidth;

  Terms terms;
  PlaceParts parts;
  Divider columns;
  double* part_sums;  // [kSums][channels][parts]

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t column;
    const int32_t part = columns.Split(i, &column);
    const int32_t channel = column * Terms::kWidth;
    const int32_t end = parts.End(part);
    int32_t place = parts.Begin(part);
    double totals[kCount] = {};
    for (; place + kPlaceBlock <= end; place += kPlaceBlock) {
      typename Terms::Sum block[kCount] = {};
      for (int p = 0; p < kPlaceBlock; ++p) terms.Add(place + p, channel, block);
      for (int k = 0; k < kCount; ++k) totals[k] += static_cast<double>(block[k]);
    }
    typename Terms::Sum rest[kCount] = {};
    for (; place < end; ++place) terms.Add(place, channel, rest);

    const int32_t channels = columns.divisor() * Terms::kWidth;
    for (int s = 0; s < Terms::kSums; ++s) {
      for (int k = 0; k < Terms::kWidth; ++k) {
        const int at = s * Terms::kWidth + k;
        part_sums[int64_t{s * channels + channel + k} * parts.parts() + part] =
            totals[at] + static_cast<double>(rest[at]);
      }
    }
  }
};

// Returns the sum of part_sums[0 .. parts), in every thread of the group.
CONVOY_DEVICE inline double AddParts(const double* part_sums, int32_t parts, Group& group) {
  double sum = 0;
  for (int32_t part = group.rank(); part < parts; part += group.size()) sum += part_sums[part];
  return group.Sum(sum);
}

}  // namespace convoy::cuda
