// layers/cuda/kernels/shared_memory.h - memory that products of one stream use one after another.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/cuda/runtime.h"

namespace convoy::cuda {

class SharedMemory {
 public:
  explicit SharedMemory(int device) : device_(device) {}

  // At least `bytes`; null for 0. Who holds it finds it where it is, a recorded step too, whatever
  // others ask for later.
  std::shared_ptr<const Buffer> AtLeast(int64_t bytes) {
    if (bytes == 0) return nullptr;
    std::erase_if(buffers_, [](const auto& buffer) { return buffer.expired(); });
    for (const auto& buffer : buffers_) {
      if (auto held = buffer.lock(); held && held->bytes() >= bytes) return held;
    }
    auto made = std::make_shared<const Buffer>(AllocateDevice(device_, RoundUp(bytes, kStep)));
    buffers_.push_back(made);
    return made;
  }

 private:
  // Steps, so that products that need about the same share one.
  static constexpr int64_t kStep = 16 << 20;

  int device_;
  std::vector<std::weak_ptr<const Buffer>> buffers_;  // that somebody holds
};

}  // namespace convoy::cuda
