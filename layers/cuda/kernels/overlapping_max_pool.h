// layers/cuda/kernels/overlapping_max_pool.h - max pooling of 3 x 3 windows with stride 2,
// AlexNet's, with or without LRN of the paper's numbers before it.
//
// These kernels are bound by instructions before they are bound by bytes, so that both do as little
// as possible twice:
//   forward   a thread has two neighbouring columns of windows and walks down their rows: it
//             normalises the column and the rows that its windows share once, 5 places for 4
//   backward  a thread has a cell, the 2 x 2 places from one window to the next. Four windows touch
//             a cell, in 9 pairs of a place and a window: each is loaded once, and which pairs they
//             are is known to the compiler. No lane of a warp takes another way than its
//             neighbours, but at the edges of images.
// That fewer instructions were counted in the code for sm_90 is why; it was not measured.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "layers/cuda/kernels/lrn_math.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/pooling.h"

namespace convoy::cuda {

// The place of a maximum in its window: bit 3 * row + column, none for the last of the nine. A
// place is compared with the tap of any channel in a word by one instruction.
using TapBits = uint8_t;

template <typename T, typename Norm, int kWidth>
struct OverlappingMaxPoolForward {
  using Tap = TapBits;
  static constexpr int kColumns = 2;  // of windows, per thread

  Norm norm;
  PoolAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  int32_t kernel;
  int32_t windows_per_thread;
  const T* x;
  T* y;
  Tap* taps;  // null if no backward follows

  // Of some places of a window: the first of the largest values and its bit.
  struct Maxima {
    CONVOY_HOST_DEVICE void Take(const float* other, bool is_first, uint32_t bit) {
      for (int c = 0; c < kWidth; ++c) TakeOne(c, other[c], is_first, bit);
    }
    // Of the last row, as a first row has them.
    CONVOY_HOST_DEVICE void TakeLast(const Maxima& row) {
      for (int c = 0; c < kWidth; ++c) TakeOne(c, row.values[c], false, row.bits[c] << 6);
    }
    CONVOY_HOST_DEVICE void TakeOne(int c, float value, bool is_first, uint32_t bit) {
      const bool takes = value > values[c] || is_first;
      values[c] = takes ? value : values[c];
      bits[c] = takes ? bit : bits[c];
    }

    float values[kWidth];
    uint32_t bits[kWidth];
  };
  // A row of x as a thread sees it, from the left column of its windows to the right one.
  struct Row {
    const T* x;
    const int32_t* offsets;
    int32_t start, channel;
    float values[kWidth];  // of the column that was visited last
  };

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const int32_t column = place.w * kColumns, start = columns.Start(column);
    const bool has_right = column + 1 < columns.windows();
    // A place outside of the image is the one at its edge, with the bit of that one.
    int32_t offsets[2 * kColumns + 1];
    for (int k = 0; k < 2 * kColumns + 1; ++k) {
      offsets[k] = columns.Clamp(start + k) * inputs.channels() + place.channel;
    }
    const T* image = x + inputs.OffsetOf(place.image, 0, 0);
    const auto row_at = [&](int32_t h) {
      return Row{.x = image + rows.Clamp(h) * inputs.row(),
                 .offsets = offsets,
                 .start = start,
                 .channel = place.channel};
    };

    const int32_t first = place.h * windows_per_thread;
    const int32_t end = std::min(first + windows_per_thread, rows.windows());
    int32_t h = rows.Start(first);
    int64_t offset = outputs.OffsetOf(place.image, first, column) + place.channel;
    Maxima left = {}, right = {};
    Row row = row_at(h);
    const int top = 3 * std::max(0, -h);
    TakeLeft(row, true, top, left);
    if (has_right) TakeRight(row, true, top, right);
    for (int32_t window = first; window < end; ++window) {
      row = row_at(h + 1);
      const int middle = 3 * std::max(1, -h);
      TakeLeft(row, false, middle, left);
      if (has_right) TakeRight(row, false, middle, right);
      row = row_at(h + 2);  // the first row of the next windows
      Maxima last = {};
      TakeLeft(row, true, 0, last);
      left.TakeLast(last);
      Store(left, offset);
      left = last;
      if (has_right) {
        TakeRight(row, true, 0, last);
        right.TakeLast(last);
        Store(right, offset + outputs.channels());
        right = last;
      }
      h += 2;
      offset += outputs.row();
    }
  }

  // Three columns of a row whose bits start at `shift`. Written out, as is TakeRight: nvcc leaves
  // loops over so much as loops, and keeps offsets that a loop indexes in memory.
  CONVOY_HOST_DEVICE void TakeLeft(Row& row, bool is_first, int shift, Maxima& maxima) const {
    Load(row, 0);
    maxima.Take(row.values, is_first, 1u << (shift + std::max(0, -row.start)));
    Load(row, 1);
    maxima.Take(row.values, false, 1u << (shift + std::max(1, -row.start)));
    Load(row, 2);
    maxima.Take(row.values, false, 4u << shift);
  }
  // After TakeLeft: the column that both windows have is there. The left edge is not among them.
  CONVOY_HOST_DEVICE void TakeRight(Row& row, bool is_first, int shift, Maxima& maxima) const {
    maxima.Take(row.values, is_first, 1u << shift);
    Load(row, 3);
    maxima.Take(row.values, false, 2u << shift);
    Load(row, 4);
    maxima.Take(row.values, false, 4u << shift);
  }
  CONVOY_HOST_DEVICE void Load(Row& row, int k) const {
    norm.template Forward<kWidth>(row.x + row.offsets[k], row.channel, row.values);
  }

  CONVOY_HOST_DEVICE void Store(const Maxima& best, int64_t offset) const {
    StoreVector<kWidth>(best.values, y + offset);
    if (taps == nullptr) return;
    Vector<Tap, kWidth> vector;
    for (int c = 0; c < kWidth; ++c) vector.values[c] = static_cast<Tap>(best.bits[c]);
    StoreWhole(vector, taps + offset);
  }
};

// dy and the taps of kCount channels of a window.
template <typename T, int kCount>
class TappedGradient {
 public:
  CONVOY_HOST_DEVICE void Load(const T* dy, const TapBits* taps, bool exists) {
    if (!exists) return;
    dy_ = LoadWhole<Packed<T, kCount>>(dy);
    taps_ = LoadWhole<Taps>(taps);
  }

  // sums[c] += dy if the maximum is the place that is tap `kTap`.
  template <int kTap>
  CONVOY_HOST_DEVICE void AddTo(float* sums) const {
    float gradient[kCount];
    Unpack<kCount, T>(dy_, gradient);
    for (int c = 0; c < kCount; ++c) {
      const uint32_t word = taps_.values[c / kPerWord];
      const int shift = c % kPerWord * 8;
      const bool is_there =
          kTap == 8 ? (word & (0xFFu << shift)) == 0 : (word & ((1u << kTap % 8) << shift)) != 0;
      if (is_there) sums[c] += gradient[c];
    }
  }

 private:
  static constexpr int kPerWord = std::min(kCount, 4);
  using Word = std::conditional_t<kPerWord == 4, uint32_t,
                                  std::conditional_t<kPerWord == 2, uint16_t, uint8_t>>;
  using Taps = Vector<Word, kCount / kPerWord>;

  Packed<T, kCount> dy_ = {};  // zeros if there is no window
  Taps taps_ = {};
};
template <typename T>
class TappedGradient<T, 0> {
 public:
  CONVOY_HOST_DEVICE void Load(const T*, const TapBits*, bool) {}
  template <int kTap>
  CONVOY_HOST_DEVICE void AddTo(float*) const {}
};

// A window, with the channels beside a thread's own that LRN asks for.
template <typename T, int kWidth, int kHalo>
struct WindowGradient {
  CONVOY_HOST_DEVICE void Load(const T* dy, const TapBits* taps, Neighbours neighbours,
                               bool exists) {
    left.Load(dy - kHalo, taps - kHalo, exists && neighbours.left);
    own.Load(dy, taps, exists);
    right.Load(dy + kWidth, taps + kWidth, exists && neighbours.right);
  }
  template <int kTap>
  CONVOY_HOST_DEVICE void AddTo(float* sums) const {
    left.template AddTo<kTap>(sums);
    own.template AddTo<kTap>(sums + kHalo);
    right.template AddTo<kTap>(sums + kHalo + kWidth);
  }

  TappedGradient<T, kHalo> left, right;
  TappedGradient<T, kWidth> own;
};

// The gradient before the pooling of the place in row kRow and column kColumn of a cell. The
// windows come in the order of their places in y.
template <typename Window, int kRow, int kColumn>
struct CellGradient {
  const Window (&windows)[2][2];

  template <int kWidth, int kHalo>
  CONVOY_HOST_DEVICE void Load(int32_t, Neighbours, float* to) const {
    for (int c = 0; c < kWidth + 2 * kHalo; ++c) to[c] = 0;
    if constexpr (kRow == 0 && kColumn == 0) windows[0][0].template AddTo<8>(to);
    if constexpr (kRow == 0) windows[0][1].template AddTo<6 + kColumn>(to);
    if constexpr (kColumn == 0) windows[1][0].template AddTo<3 * kRow + 2>(to);
    windows[1][1].template AddTo<3 * kRow + kColumn>(to);
  }
};

template <typename T, typename Norm, int kWidth>
struct OverlappingMaxPoolBackward {
  // Returns the shape of its threads, for that of dx.
  static Shape ThreadsOf(const Shape& places, const PoolAxis& rows, const PoolAxis& columns) {
    const Range down = rows.Cells(), across = columns.Cells();
    return places.With(1, down.end - down.begin).With(2, across.end - across.begin);
  }

  Norm norm;
  PoolAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  int32_t kernel;
  bool mask;
  const T* x;
  const T* dy;
  const TapBits* taps;
  T* dx;

  using Window = WindowGradient<T, kWidth, Norm::kGradientHalo>;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const int32_t row = place.h + rows.Cells().begin, column = place.w + columns.Cells().begin;
    const Neighbours neighbours = norm.template NeighboursOf<kWidth>(place.channel);

    const int64_t last = outputs.OffsetOf(place.image, row, column) + place.channel;
    const T* last_dy = dy + last;
    const TapBits* last_taps = taps + last;
    const bool has_row[] = {row > 0, row < rows.windows()};
    const bool has_column[] = {column > 0, column < columns.windows()};
    Window windows[2][2];
    for (int r = 0; r < 2; ++r) {
      for (int c = 0; c < 2; ++c) {
        const int64_t before = (1 - r) * outputs.row() + (1 - c) * outputs.channels();
        windows[r][c].Load(last_dy - before, last_taps - before, neighbours,
                           has_row[r] && has_column[c]);
      }
    }

    const int32_t h = rows.Start(row), w = columns.Start(column);
    const int64_t first = inputs.OffsetOf(place.image, h, w) + place.channel;
    const bool in_row[] = {h >= 0, h + 1 < rows.places()};
    const bool in_column[] = {w >= 0, w + 1 < columns.places()};
    const auto write = [&](auto gradient, bool exists, int64_t offset) {
      if (!exists) return;
      norm.template Backward<kWidth>(x + offset, place.channel, gradient, mask, dx + offset);
    };
    write(CellGradient<Window, 0, 0>{windows}, in_row[0] && in_column[0], first);
    write(CellGradient<Window, 0, 1>{windows}, in_row[0] && in_column[1],
          first + inputs.channels());
    write(CellGradient<Window, 1, 0>{windows}, in_row[1] && in_column[0], first + inputs.row());
    write(CellGradient<Window, 1, 1>{windows}, in_row[1] && in_column[1],
          first + inputs.row() + inputs.channels());
  }
};

}  // namespace convoy::cuda
