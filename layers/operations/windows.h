// layers/operations/windows.h - where the windows of a pooling lie along one axis of an image.
#pragma once

#include <cstdint>
#include <vector>

#include "layers/spec.h"

namespace convoy {

// Window i reads places [begin, end), cut to the image; uncut it would start at `start`. `divisor`
// is this axis's share of what an average divides by.
struct Window {
  int64_t start, begin, end;
  float divisor;
};

// Windows [first, end) contain a place.
struct Covering {
  int64_t first, end;
};

struct WindowAxis {
  std::vector<Window> windows;      // by output place; begin and end never fall
  std::vector<Covering> coverings;  // by input place
};

enum class Axis { kHeight, kWidth };

// Throws (kUsage) when a window would lie only in the padding.
WindowAxis PoolWindows(const Pool& pool, Axis axis, int64_t in, int64_t out);
// PyTorch's adaptive windows: from floor(i * in / out) to ceil((i + 1) * in / out).
WindowAxis AdaptiveWindows(int64_t in, int64_t out);

}  // namespace convoy
