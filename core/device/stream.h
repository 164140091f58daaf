// core/device/stream.h - an ordered queue of device work.
//
// Work queued on one stream runs in order. On the CPU everything runs before the call returns, so
// HostStream does nothing; a CUDA stream returns at once and Synchronize() waits.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device/device.h"

namespace convoy {

// A point in a stream that another stream, or the host, can wait for.
class Event {
 public:
  virtual ~Event() = default;
  // Blocks the host until the point is reached.
  virtual void Synchronize() = 0;
  // Returns whether it is reached, without waiting.
  virtual bool Reached() = 0;
  // Returns the time from `earlier`, an event of the same device, to this one. Both have been
  // reached.
  virtual double SecondsSince(const Event& earlier) const = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual Device device() const = 0;
  // Marks the point after all work queued so far. The caller owns the event.
  virtual std::unique_ptr<Event> Record() = 0;
  // Work queued later on this stream starts after `event`.
  virtual void WaitFor(Event& event) = 0;
  // Blocks the host until all queued work is done.
  virtual void Synchronize() = 0;
  // Queues a copy of `bytes` bytes. Either side may be host memory; if that is not pinned, the
  // call may return only when the copy is done.
  virtual void Copy(void* to, const void* from, int64_t bytes) = 0;
  // The vendor's handle (cudaStream_t), null on the CPU.
  virtual void* native_handle() const = 0;
};

// The CPU's stream: work is done when the call that queues it returns.
class HostStream final : public Stream {
 public:
  Device device() const override { return {}; }
  std::unique_ptr<Event> Record() override;
  void WaitFor(Event&) override {}
  void Synchronize() override {}
  void Copy(void* to, const void* from, int64_t bytes) override;
  void* native_handle() const override { return nullptr; }
};

}  // namespace convoy
