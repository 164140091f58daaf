// comm/step_watch.h - a wait of the host for its device, under the eyes of the watchdog.
#pragma once

#include <cstdint>

#include "core/host/clock.h"

namespace convoy {

class Watchdog;

// The host waits for the device to end `step` while this exists. If that takes longer than the
// watchdog's deadline, the process ends. Must not outlive the watchdog; does nothing without one
// (null), as on the CPU.
class StepWatch {
 public:
  StepWatch(Watchdog* watchdog, int64_t step);
  ~StepWatch();
  StepWatch(const StepWatch&) = delete;
  StepWatch& operator=(const StepWatch&) = delete;

 private:
  Watchdog* const watchdog_;
  const int64_t step_;
  const Clock::time_point since_;
  friend class Watchdog;
};

}  // namespace convoy
