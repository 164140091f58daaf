#include "dataloader/images/filter_kernels.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace convoy {
namespace {

constexpr int kPixel = 4;  // values of a colour pixel
constexpr int kGroup = 4;  // taps

// Returns a weight in 16 bits. A weight of one lacks a unit, which the rounding hides.
uint16_t ShortWeight(int32_t weight) {
  return static_cast<uint16_t>(std::min<int32_t>(weight, (1 << kWeightBits) - 1));
}

uint16_t Weigh(uint16_t value, uint16_t weight) {
  return static_cast<uint16_t>((uint32_t{value} * weight) >> kWeightBits);
}

// The value that the sum of a row or column starts with: what the products lose on average. Columns
// add half a level for rounding.
uint16_t RowStart(int taps) { return static_cast<uint16_t>(taps / 2); }
uint16_t ColumnStart(int taps) { return static_cast<uint16_t>(taps / 2 + (1 << (kValueBits - 1))); }

#if defined(__AVX2__)
// Computes 32 values at a time and returns how many it made. Each byte is unpacked above a zero
// byte, which multiplies it by 2^8 without a further instruction. Unpacking puts values 0..7 and
// 16..23 into one register and the rest into the other, so the sums change places on their way from
// and to `out`.
template <int kTaps, bool kAdds>
int WeighFewRowsFast(const uint8_t* const* row, const uint16_t* weight, uint16_t start, int count,
                     uint16_t* out) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i factor[size_t{kTaps}];
  for (int tap = 0; tap < kTaps; ++tap) {
    factor[tap] = _mm256_set1_epi16(static_cast<int16_t>(weight[tap]));
  }
  const auto swap_halves = [](__m256i& a, __m256i& b) {
    const __m256i first = _mm256_permute2x128_si256(a, b, 0x20);
    b = _mm256_permute2x128_si256(a, b, 0x31);
    a = first;
  };
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    auto* to = reinterpret_cast<__m256i*>(out + i);
    __m256i low = _mm256_set1_epi16(static_cast<int16_t>(start)), high = low;
    if (kAdds) {
      low = _mm256_loadu_si256(to);
      high = _mm256_loadu_si256(to + 1);
      swap_halves(low, high);
    }
    for (int tap = 0; tap < kTaps; ++tap) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row[tap] + i));
      const __m256i even = _mm256_unpacklo_epi8(zero, bytes);
      const __m256i odd = _mm256_unpackhi_epi8(zero, bytes);
      low = _mm256_add_epi16(low, _mm256_mulhi_epu16(even, factor[tap]));
      high = _mm256_add_epi16(high, _mm256_mulhi_epu16(odd, factor[tap]));
    }
    swap_halves(low, high);
    _mm256_storeu_si256(to, low);
    _mm256_storeu_si256(to + 1, high);
  }
  return i;
}
#endif

// Sums all taps of some values before it begins with the next values, so that sums stay in
// registers. If kAdds, adds to what `out` holds.
template <int kTaps, bool kAdds>
void WeighFewRows(const uint8_t* const* rows, const int32_t* weights, uint16_t start, int count,
                  uint16_t* out) {
  const uint8_t* row[size_t{kTaps}];
  uint16_t weight[size_t{kTaps}];
  for (int tap = 0; tap < kTaps; ++tap) {
    row[tap] = rows[tap];
    weight[tap] = ShortWeight(weights[tap]);
  }
  int i = 0;
#if defined(__AVX2__)
  i = WeighFewRowsFast<kTaps, kAdds>(row, weight, start, count, out);
#endif
  for (; i < count; ++i) {
    uint16_t sum = kAdds ? out[i] : start;
    for (int tap = 0; tap < kTaps; ++tap) {
      const auto value = static_cast<uint16_t>(row[tap][i] << kValueBits);
      sum = static_cast<uint16_t>(sum + Weigh(value, weight[tap]));
    }
    out[i] = sum;
  }
}

template <bool kAdds>
void WeighUpToSixRows(const uint8_t* const* rows, const int32_t* weights, int taps, uint16_t start,
                      int count, uint16_t* out) {
  switch (taps) {
    case 1:
      return WeighFewRows<1, kAdds>(rows, weights, start, count, out);
    case 2:
      return WeighFewRows<2, kAdds>(rows, weights, start, count, out);
    case 3:
      return WeighFewRows<3, kAdds>(rows, weights, start, count, out);
    case 4:
      return WeighFewRows<4, kAdds>(rows, weights, start, count, out);
    case 5:
      return WeighFewRows<5, kAdds>(rows, weights, start, count, out);
    default:
      return WeighFewRows<6, kAdds>(rows, weights, start, count, out);
  }
}

void WeighLongRows(const uint8_t* const* rows, const int32_t* weights, int taps, int count,
                   uint16_t* out) {
  constexpr int kShift = kWeightBits - kValueBits, kPiece = 256;
  for (int at = 0; at < count; at += kPiece) {
    const int piece = std::min(kPiece, count - at);
    int32_t sums[kPiece];
    std::fill_n(sums, piece, 1 << (kShift - 1));
    for (int tap = 0; tap < taps; ++tap) {
      const uint8_t* row = rows[tap] + at;
      const int32_t weight = weights[tap];
      for (int i = 0; i < piece; ++i) sums[i] += weight * row[i];
    }
    for (int i = 0; i < piece; ++i) out[at + i] = static_cast<uint16_t>(sums[i] >> kShift);
  }
}

// Sums in 32 bits, all of which the sum needs: 255 << 24 and half a level.
void WeighLongColumns(const ColumnWeights& weights, const uint16_t* row, uint8_t* out) {
  constexpr int kShift = kWeightBits + kValueBits;
  const int kept = std::min(weights.values, 3);
  for (int i = 0; i < weights.outputs; ++i) {
    const uint32_t* weight = weights.long_weights.data() + ptrdiff_t{i} * weights.taps;
    const uint16_t* from = row + weights.starts[static_cast<size_t>(i)];
    for (int c = 0; c < kept; ++c) {
      uint32_t sum = 1u << (kShift - 1);
      for (int tap = 0; tap < weights.taps; ++tap)
        sum += weight[tap] * from[weights.values * tap + c];
      out[kept * i + c] = static_cast<uint8_t>(sum >> kShift);
    }
  }
}

void WeighGreyColumns(const ColumnWeights& weights, const uint16_t* row, uint8_t* out) {
  for (int i = 0; i < weights.outputs; ++i) {
    const uint16_t* weight = weights.short_weights.data() + ptrdiff_t{i} * weights.taps;
    const uint16_t* from = row + weights.starts[static_cast<size_t>(i)];
    uint16_t sum = ColumnStart(weights.taps);
    for (int tap = 0; tap < weights.taps; ++tap) {
      sum = static_cast<uint16_t>(sum + Weigh(from[tap], weight[tap]));
    }
    out[i] = static_cast<uint8_t>(sum >> kValueBits);
  }
}

// Computes outputs [first, outputs) of colour pixels.
void WeighColourColumns(const ColumnWeights& weights, const uint16_t* row, int first,
                        uint8_t* out) {
  for (int i = first; i < weights.outputs; ++i) {
    const uint16_t* weight =
        weights.short_weights.data() + ptrdiff_t{i} * weights.groups * kGroup * kPixel;
    const uint16_t* from = row + weights.starts[static_cast<size_t>(i)];
    for (int c = 0; c < 3; ++c) {
      uint16_t sum = ColumnStart(weights.taps);
      for (int tap = 0; tap < weights.taps; ++tap) {
        sum = static_cast<uint16_t>(sum + Weigh(from[kPixel * tap + c], weight[kPixel * tap + c]));
      }
      out[3 * i + c] = static_cast<uint8_t>(sum >> kValueBits);
    }
  }
}

#if defined(__AVX2__)
// Computes one output: four taps of four values at a time, and then the sum of the taps' products.
// Lanes 0..3 and 4..7 of the result are two halves of the sum.
template <int kGroups>
__m128i WeighPixel(const uint16_t* from, const uint16_t* weight, int groups) {
  const auto product = [&](int group) {
    const auto* pixels = reinterpret_cast<const __m256i*>(from + group * kGroup * kPixel);
    const auto* factors = reinterpret_cast<const __m256i*>(weight + group * kGroup * kPixel);
    return _mm256_mulhi_epu16(_mm256_loadu_si256(pixels), _mm256_loadu_si256(factors));
  };
  __m256i sum = product(0);
  for (int group = 1; group < (kGroups > 0 ? kGroups : groups); ++group) {
    sum = _mm256_add_epi16(sum, product(group));
  }
  return _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

// Computes four outputs at a time and returns how many it made.
template <int kGroups>
int WeighColourColumnsFast(const ColumnWeights& weights, const uint16_t* row, uint8_t* out) {
  const __m128i start = _mm_set1_epi16(static_cast<int16_t>(ColumnStart(weights.taps)));
  const __m128i three_of_four =
      _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const int groups = weights.groups, stride = groups * kGroup * kPixel;
  const int32_t* starts = weights.starts.data();
  const uint16_t* weight = weights.short_weights.data();
  int i = 0;
  for (; i + 4 <= weights.outputs; i += 4, weight += 4 * stride) {
    __m128i two[2];
    for (int half = 0; half < 2; ++half) {
      const int a = 2 * half, b = a + 1;
      const __m128i sum_a =
          WeighPixel<kGroups>(row + starts[i + a], weight + ptrdiff_t{a} * stride, groups);
      const __m128i sum_b =
          WeighPixel<kGroups>(row + starts[i + b], weight + ptrdiff_t{b} * stride, groups);
      const __m128i sum =
          _mm_add_epi16(_mm_unpacklo_epi64(sum_a, sum_b), _mm_unpackhi_epi64(sum_a, sum_b));
      two[half] = _mm_srli_epi16(_mm_add_epi16(sum, start), kValueBits);
    }
    const __m128i bytes = _mm_shuffle_epi8(_mm_packus_epi16(two[0], two[1]), three_of_four);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 3 * i), bytes);
    const int last_four = _mm_extract_epi32(bytes, 2);
    std::memcpy(out + 3 * i + 8, &last_four, 4);
  }
  return i;
}
#endif

}  // namespace

void WeighRows(const uint8_t* const* rows, const int32_t* weights, int taps, int count,
               uint16_t* out) {
  if (taps > kMostShortTaps) return WeighLongRows(rows, weights, taps, count, out);
  constexpr int kAtOnce = 6;
  WeighUpToSixRows<false>(rows, weights, std::min(taps, kAtOnce), RowStart(taps), count, out);
  for (int tap = kAtOnce; tap < taps; tap += kAtOnce) {
    WeighUpToSixRows<true>(rows + tap, weights + tap, std::min(taps - tap, kAtOnce), 0, count, out);
  }
}

void ColumnWeights::Build(const int* first_pixels, const int32_t* weights, int begin,
                          int taps_of_each, int all_outputs, int values_of_pixel) {
  taps = taps_of_each;
  outputs = all_outputs;
  values = values_of_pixel;
  const auto count = static_cast<size_t>(outputs);
  starts.resize(count);
  for (size_t i = 0; i < count; ++i) starts[i] = (first_pixels[i] - begin) * values;
  const size_t all = count * static_cast<size_t>(taps);
  if (taps > kMostShortTaps) {
    long_weights.assign(weights, weights + all);
    return;
  }
  if (values == 1) {
    short_weights.resize(all);
    for (size_t i = 0; i < all; ++i) short_weights[i] = ShortWeight(weights[i]);
    return;
  }
  groups = (taps + kGroup - 1) / kGroup;
  short_weights.assign(count * static_cast<size_t>(groups * kGroup * kPixel), 0);
  uint16_t* to = short_weights.data();
  for (size_t i = 0; i < count; ++i, to += groups * kGroup * kPixel) {
    for (int tap = 0; tap < taps; ++tap) {
      const uint16_t weight =
          ShortWeight(weights[i * static_cast<size_t>(taps) + static_cast<size_t>(tap)]);
      for (int c = 0; c < kPixel; ++c) to[tap * kPixel + c] = weight;
    }
  }
}

void WeighColumnsPortably(const ColumnWeights& weights, const uint16_t* row, uint8_t* out) {
  if (weights.taps > kMostShortTaps) return WeighLongColumns(weights, row, out);
  if (weights.values == 1) return WeighGreyColumns(weights, row, out);
  WeighColourColumns(weights, row, 0, out);
}

void WeighColumns(const ColumnWeights& weights, const uint16_t* row, uint8_t* out) {
#if defined(__AVX2__)
  if (weights.taps <= kMostShortTaps && weights.values == kPixel) {
    const int done = weights.groups == 1   ? WeighColourColumnsFast<1>(weights, row, out)
                     : weights.groups == 2 ? WeighColourColumnsFast<2>(weights, row, out)
                                           : WeighColourColumnsFast<0>(weights, row, out);
    return WeighColourColumns(weights, row, done, out);
  }
#endif
  WeighColumnsPortably(weights, row, out);
}

}  // namespace convoy
