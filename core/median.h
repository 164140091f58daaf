// core/median.h - the middle of measured values.
#pragma once

#include <algorithm>
#include <vector>

namespace convoy {

// Returns the middle value, or the mean of the two middle ones; 0 if there are none.
inline double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace convoy
