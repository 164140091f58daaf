// layers/cuda/vector_width.h - kernels for two widths: the widest vector, and single values.
#pragma once

#include <cstdint>
#include <type_traits>

#include "layers/cuda/numbers.h"

namespace convoy::cuda {

// visit(std::integral_constant<int, kWidth>{}) with the values of T that a thread takes at once
// where rows are `count` long: 16 bytes where they divide the rows, else one value.
template <typename T, typename Visit>
void ForWidth(int64_t count, Visit&& visit) {
  if (count % kVectorWidth<T> == 0) {
    visit(std::integral_constant<int, kVectorWidth<T>>{});
  } else {
    visit(std::integral_constant<int, 1>{});
  }
}

}  // namespace convoy::cuda
