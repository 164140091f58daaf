// dataloader/images/filter_kernels.h - the inner loops of resampling: weighted sums of rows and of
// columns.
//
// Values between the two filters have 8 fraction bits and fit into 16 bits. A weight is a fraction
// of 2^16; the product is the high half of a 16-bit multiplication, which is what vector units do
// best. It loses up to one unit per tap, on average half a unit, so the sums start with that half.
// With 64 taps the error stays below an eighth of a level. Filters of more taps are summed in 32
// bits.
#pragma once

#include <cstdint>
#include <vector>

namespace convoy {

inline constexpr int kValueBits = 8;  // fraction bits between the two filters
inline constexpr int kWeightBits = 16;
inline constexpr int kMostShortTaps = 64;

// Computes out[i] = sum over taps of weights[tap] * rows[tap][i], with kValueBits. The weights add
// up to 2^kWeightBits.
void WeighRows(const uint8_t* const* rows, const int32_t* weights, int taps, int count,
               uint16_t* out);

// A filter over the pixels of one row, laid out for WeighColumns(). A pixel has 1 value, or 4
// values of which the first 3 are used.
class ColumnWeights {
 public:
  // Values after the end of a row that may be read. They do not count.
  static constexpr int kSlack = 16;

  // Output i sums the pixels [starts[i] - begin, + taps) of a row, weights[i * taps ...].
  void Build(const int* starts, const int32_t* weights, int begin, int taps, int outputs,
             int values);

  int taps = 0, outputs = 0, values = 1;
  std::vector<int32_t> starts;  // in values
  // If taps <= kMostShortTaps: [outputs, groups, 4, 4], 4 taps a group with every weight 4 times;
  // for pixels with 1 value [outputs, taps].
  int groups = 0;
  std::vector<uint16_t> short_weights;
  std::vector<uint32_t> long_weights;  // more taps: [outputs, taps]
};

// Write uint8 [outputs, 1 or 3] to `out`. WeighColumns() uses vectors if the processor has them,
// with the same result as WeighColumnsPortably().
void WeighColumns(const ColumnWeights& weights, const uint16_t* row, uint8_t* out);
void WeighColumnsPortably(const ColumnWeights& weights, const uint16_t* row, uint8_t* out);

}  // namespace convoy
