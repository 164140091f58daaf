// core/host/clock.h - how long something took.
#pragma once

#include <chrono>
#include <ctime>

namespace convoy {

// Monotonic: it is never set back.
using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Returns the seconds of processors that this process has used, over all its threads.
inline double ProcessCpuSeconds() {
  return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
}

}  // namespace convoy
