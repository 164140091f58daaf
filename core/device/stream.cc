#include "core/device/stream.h"

#include <cstddef>
#include <cstring>

#include "core/host/clock.h"

namespace convoy {
namespace {

class HostEvent final : public Event {
 public:
  void Synchronize() override {}
  bool Reached() override { return true; }
  double SecondsSince(const Event& earlier) const override {
    const auto& other = static_cast<const HostEvent&>(earlier);
    return std::chrono::duration<double>(time_ - other.time_).count();
  }

 private:
  Clock::time_point time_ = Clock::now();
};

}  // namespace

std::unique_ptr<Event> HostStream::Record() { return std::make_unique<HostEvent>(); }

void HostStream::Copy(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace convoy
