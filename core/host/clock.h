// core/host/clock.h - how long something took.
#pragma once

#include <chrono>

namespace convoy {

// Monotonic: it is never set back.
using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace convoy
