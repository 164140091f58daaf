// layers/cuda/kernels/workspace_pool.h - memory that products of one stream use one after another.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/cuda/runtime.h"

namespace convoy::cuda {

class WorkspacePool {
 public:
  explicit WorkspacePool(int device) : device_(device) {}

  // Returns at least `bytes`; null for 0. The address stays valid while the pointer is held, so a
  // recorded step may use it even if a later call needs more.
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
