// core/cuda/upload.h - small values of the host, copied to a device without waiting for it.
#pragma once

#include <array>
#include <cstring>
#include <memory>

#include "core/cuda/runtime.h"

namespace convoy::cuda {

// Copies through several pieces of pinned memory in turn, so that a call need not wait for the copy
// of the call before it.
class Uploader {
 public:
  explicit Uploader(int device) : device_(device) {}

  // Queues the copy of `bytes` bytes to device memory. `from` may change when the call returns. Not
  // to be called while `stream` is being recorded.
  void Copy(Stream& stream, const void* from, int64_t bytes, void* to) {
    Slot& slot = slots_[next_slot_];
    next_slot_ = (next_slot_ + 1) % slots_.size();
    if (slot.copied) slot.copied->Synchronize();
    if (slot.memory.bytes() < bytes) slot.memory = AllocatePinned(device_, bytes);
    std::memcpy(slot.memory.data(), from, static_cast<size_t>(bytes));
    stream.Copy(to, slot.memory.data(), bytes);
    slot.copied = stream.Record();
  }

 private:
  struct Slot {
    Buffer memory;
    std::unique_ptr<Event> copied;
  };
  int device_;
  std::array<Slot, 8> slots_;
  size_t next_slot_ = 0;
};

}  // namespace convoy::cuda
