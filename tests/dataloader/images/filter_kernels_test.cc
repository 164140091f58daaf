#include "dataloader/images/filter_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/random.h"
#include "dataloader/images/resize.h"

namespace convoy {
namespace {

constexpr int kOne = 1 << kWeightBits;

// Returns `taps` weights that add up to one, some of them zero.
std::vector<int32_t> SomeWeights(int taps, uint64_t seed) {
  std::vector<int32_t> weights(static_cast<size_t>(taps));
  int left = kOne;
  for (int i = 0; i + 1 < taps; ++i) {
    const uint32_t word = RandomBlock({.seed = seed, .position = static_cast<uint64_t>(i)})[0];
    weights[static_cast<size_t>(i)] =
        word % 5 == 0 ? 0 : static_cast<int32_t>(word % static_cast<uint32_t>(2 * left / taps + 1));
    left -= weights[static_cast<size_t>(i)];
  }
  weights.back() = left;
  return weights;
}

// Returns the error, in levels, of `taps` products. Each loses up to a unit, half of which is added
// back.
double LargestError(int taps) { return taps > kMostShortTaps ? 0.01 : (0.5 * taps + 2) / 256; }

TEST(WeighRows, IsTheWeightedSumForAnyNumberOfTaps) {
  constexpr int kCount = 333;
  for (const int taps : {1, 2, 3, 4, 5, 6, 7, 12, 63, 64, 65, 200}) {
    std::vector<std::vector<uint8_t>> rows(static_cast<size_t>(taps));
    std::vector<const uint8_t*> pointers;
    for (size_t tap = 0; tap < rows.size(); ++tap) {
      for (uint32_t i = 0; i < kCount; ++i) {
        rows[tap].push_back(
            static_cast<uint8_t>(RandomBlock({.seed = tap, .position = i})[0] >> 24));
        if (i < 5) rows[tap].back() = 255;
      }
      pointers.push_back(rows[tap].data());
    }
    const std::vector<int32_t> weights = SomeWeights(taps, 3);
    std::vector<uint16_t> out(kCount + 1, 7777);
    WeighRows(pointers.data(), weights.data(), taps, kCount, out.data());
    for (size_t i = 0; i < kCount; ++i) {
      double exact = 0;
      for (size_t tap = 0; tap < rows.size(); ++tap) {
        exact += static_cast<double>(weights[tap]) / kOne * rows[tap][i];
      }
      ASSERT_NEAR(out[i] / 256.0, exact, LargestError(taps)) << taps << " " << i;
    }
    EXPECT_EQ(out[kCount], 7777);
  }
}

TEST(WeighColumns, VectorsGiveTheResultOfThePlainLoopsWhichIsTheWeightedSum) {
  constexpr int kPixels = 260;
  for (const int values : {1, 4}) {
    for (const int taps : {1, 2, 3, 4, 5, 7, 8, 9, 16, 64, 65, 130}) {
      for (const int outputs : {1, 3, 4, 5, 7, 8, 11, 32}) {
        std::vector<uint16_t> row;
        for (uint32_t i = 0; i < kPixels * 4u; ++i) {
          row.push_back(static_cast<uint16_t>(RandomBlock({.seed = 8, .position = i})[0] % 65281));
        }
        std::vector<int> starts;
        std::vector<int32_t> weights;
        for (int i = 0; i < outputs; ++i) {
          starts.push_back(10 + i * (kPixels - taps) / 40);
          const std::vector<int32_t> own = SomeWeights(taps, static_cast<uint64_t>(i));
          weights.insert(weights.end(), own.begin(), own.end());
        }
        ColumnWeights columns;
        columns.Build(starts.data(), weights.data(), 10, taps, outputs, values);
        const int kept = values == 1 ? 1 : 3;
        std::vector<uint8_t> fast(static_cast<size_t>(outputs * kept + 1), 77), plain = fast;
        WeighColumns(columns, row.data(), fast.data());
        WeighColumnsPortably(columns, row.data(), plain.data());
        ASSERT_EQ(fast, plain) << values << " " << taps << " " << outputs;
        EXPECT_EQ(fast.back(), 77);
        for (int i = 0; i < outputs; ++i) {
          for (int c = 0; c < kept; ++c) {
            double exact = 0;
            for (int tap = 0; tap < taps; ++tap) {
              const int pixel = starts[static_cast<size_t>(i)] - 10 + tap;
              exact += static_cast<double>(weights[static_cast<size_t>(i * taps + tap)]) / kOne *
                       row[static_cast<size_t>(pixel * values + c)] / 256.0;
            }
            // Half a level more for rounding to whole levels.
            ASSERT_NEAR(plain[static_cast<size_t>(i * kept + c)], exact, 0.5 + LargestError(taps));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace convoy
