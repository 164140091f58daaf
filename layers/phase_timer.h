// layers/phase_timer.h - how long an operation of a step takes.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string_view>

#include "layers/network.h"

namespace convoy {

// Tells the context's timer, if there is one, how long the work took that was queued on the
// context's stream while this object lived. Waits for it. The context and the names outlive it.
class PhaseTimer {
 public:
  PhaseTimer(const StepContext& context, std::string_view name, const char* phase)
      : context_(context), name_(name), phase_(phase) {
    if (context.timer != nullptr) start_ = context.stream->Record();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;
  ~PhaseTimer() {
    if (context_.timer == nullptr) return;
    const std::unique_ptr<Event> end = context_.stream->Record();
    end->Synchronize();
    context_.timer->Record(fmt::format("{} {}", name_, phase_), end->SecondsSince(*start_));
  }

 private:
  const StepContext& context_;
  const std::string_view name_;
  const char* phase_;
  std::unique_ptr<Event> start_;
};

}  // namespace convoy
