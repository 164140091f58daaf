// layers/cuda/kernels/max_pool_kernels.h - max pooling with windows of any size and stride, after
// any LRN.
//
// Forward: a thread has kWidth channels of one column of windows, and walks down some rows of them:
// the row that two windows share is normalised once. Backward: a thread has kWidth channels of one
// place, and visits the windows that contain it. overlapping_max_pool.h has the kernels of
// AlexNet's geometry.
#pragma once

#include <algorithm>
#include <cstdint>

#include "layers/cuda/kernels/lrn_math.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/pooling.h"

namespace convoy::cuda {

template <typename T, typename Norm, int kWidth>
struct MaxPoolForward {
  // The place of a maximum in its window: (h - start) * kernel + (w - start).
  using Tap = uint16_t;
  static constexpr int kColumns = 1;  // of windows, per thread

  Norm norm;
  PoolAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  int32_t kernel;
  int32_t windows_per_thread;
  const T* x;
  T* y;
  Tap* taps;  // null if no backward follows

  // Of a row, or of some rows, of a window: the first of the largest values and its tap.
  struct Maxima {
    float values[kWidth];
    int32_t taps[kWidth];
  };

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const int32_t first = place.h * windows_per_thread;
    const int32_t end = std::min(first + windows_per_thread, outputs.height());
    Maxima row = {};
    int32_t row_of = -1;  // the place of `row`
    for (int32_t window = first; window < end; ++window) {
      const Range places = rows.Window(window);
      Maxima best = {};
      for (int32_t h = places.begin; h < places.end; ++h) {
        if (h != row_of) row = MaximaOfRow(place, h);
        row_of = h;
        const int32_t first_tap = (h - rows.Start(window)) * kernel;
        for (int c = 0; c < kWidth; ++c) {
          const bool better = h == places.begin || row.values[c] > best.values[c];
          best.values[c] = better ? row.values[c] : best.values[c];
          best.taps[c] = better ? first_tap + row.taps[c] : best.taps[c];
        }
      }
      Store(best, outputs.OffsetOf(place.image, window, place.w) + place.channel);
    }
  }

  CONVOY_HOST_DEVICE Maxima MaximaOfRow(const PlaceThreads::Place& place, int32_t h) const {
    const Range places = columns.Window(place.w);
    const int32_t start = columns.Start(place.w);
    Maxima row = {};
    for (int32_t w = places.begin; w < places.end; ++w) {
      float values[kWidth];
      norm.template Forward<kWidth>(x + inputs.OffsetOf(place.image, h, w) + place.channel,
                                    place.channel, values);
      for (int c = 0; c < kWidth; ++c) {
        const bool better = w == places.begin || values[c] > row.values[c];
        row.values[c] = better ? values[c] : row.values[c];
        row.taps[c] = better ? w - start : row.taps[c];
      }
    }
    return row;
  }

  CONVOY_HOST_DEVICE void Store(const Maxima& best, int64_t offset) const {
    StoreVector<kWidth>(best.values, y + offset);
    if (taps == nullptr) return;
    Vector<Tap, kWidth> vector;
    for (int c = 0; c < kWidth; ++c) vector.values[c] = static_cast<Tap>(best.taps[c]);
    StoreWhole(vector, taps + offset);
  }
};

// The gradient of one place before the pooling: the sum of dy over the windows whose maximum is
// there, always in the same order.
template <typename T>
struct PooledGradient {
  const PoolAxis &rows, &columns;
  const Images& outputs;
  int32_t kernel;
  const T* dy;
  const uint16_t* taps;
  PlaceThreads::Place place;

  template <int kWidth, int kHalo>
  CONVOY_HOST_DEVICE void Load(int32_t channel, Neighbours neighbours, float* to) const {
    for (int c = 0; c < kWidth + 2 * kHalo; ++c) to[c] = 0;
    const Range over_rows = rows.Covering(place.h), over_columns = columns.Covering(place.w);
    for (int32_t row = over_rows.begin; row < over_rows.end; ++row) {
      for (int32_t column = over_columns.begin; column < over_columns.end; ++column) {
        const int32_t tap = (place.h - rows.Start(row)) * kernel + place.w - columns.Start(column);
        const int64_t offset = outputs.OffsetOf(place.image, row, column) + channel;
        Add<kWidth>(offset, tap, to + kHalo);
        if constexpr (kHalo > 0) {
          if (neighbours.left) Add<kHalo>(offset - kHalo, tap, to);
          if (neighbours.right) Add<kHalo>(offset + kWidth, tap, to + kHalo + kWidth);
        }
      }
    }
  }

  template <int kCount>
  CONVOY_HOST_DEVICE void Add(int64_t offset, int32_t tap, float* sums) const {
    const auto maxima = LoadWhole<Vector<uint16_t, kCount>>(taps + offset);
    float gradient[kCount];
    LoadVector<kCount>(dy + offset, gradient);
    for (int c = 0; c < kCount; ++c) sums[c] += maxima.values[c] == tap ? gradient[c] : 0;
  }
};

template <typename T, typename Norm, int kWidth>
struct MaxPoolBackward {
  // Returns the shape of its threads, for that of dx.
  static Shape ThreadsOf(const Shape& places, const PoolAxis&, const PoolAxis&) { return places; }

  Norm norm;
  PoolAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  int32_t kernel;
  bool mask;
  const T* x;
  const T* dy;
  const uint16_t* taps;
  T* dx;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const int64_t offset = inputs.OffsetOf(place.image, place.h, place.w) + place.channel;
    const PooledGradient<T> gradient{.rows = rows,
                                     .columns = columns,
                                     .outputs = outputs,
                                     .kernel = kernel,
                                     .dy = dy,
                                     .taps = taps,
                                     .place = place};
    norm.template Backward<kWidth>(x + offset, place.channel, gradient, mask, dx + offset);
  }
};

}  // namespace convoy::cuda
