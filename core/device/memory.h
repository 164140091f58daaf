// core/device/memory.h - owned memory. Views into it are core/tensor/tensor.h.
#pragma once

#include <cstdint>
#include <functional>

#include "core/device/device.h"

namespace convoy {

// Every allocation starts at a multiple of this, and so does every tensor in a flat arena: a cache
// line, and the widest vector register.
inline constexpr int64_t kAlignmentBytes = 64;

constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// A block of memory on one device. Move-only; gives the memory back when destroyed.
class Buffer {
 public:
  using Release = std::function<void(void*)>;

  Buffer() = default;
  Buffer(void* data, int64_t bytes, Device device, Release release);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Device device_;
  Release release_;
};

// Allocates host memory of `bytes` bytes (0 is allowed), zeroed, aligned to kAlignmentBytes, backed
// by huge pages if the kernel offers them. Throws (kDevice) with the size when there is no memory
// left.
Buffer AllocateHost(int64_t bytes);
// Returns what it takes of the system for so many bytes: whole huge pages if they are many.
int64_t HostAllocationBytes(int64_t bytes);

// How a caller hands its own kind of memory (pinned, device) to code that allocates.
using Allocator = std::function<Buffer(int64_t bytes)>;

}  // namespace convoy
