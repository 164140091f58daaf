// layers/cuda/kernels/packed_images.h - packed copies of one layer's x, that forward makes and the
// gradient of the weights reads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/tensor/shape.h"
#include "layers/cuda/kernels/product_kernels.h"

namespace convoy::cuda {

// Of only one layer: between forward and backward nobody else writes there. A copy lives as long
// as a product holds it.
class PackedImages {
 public:
  explicit PackedImages(int device) : device_(device) {}

  // Null if nobody holds such a copy.
  std::shared_ptr<const Buffer> Find(const Packing& packing, const Shape& shape) const {
    for (const Copy& copy : copies_) {
      if (copy.packing == packing && copy.shape == shape) {
        if (auto held = copy.memory.lock()) return held;
      }
    }
    return nullptr;
  }
  // For who writes it in every step; candidates for one product share it.
  std::shared_ptr<const Buffer> FindOrMake(const Packing& packing, const Shape& shape,
                                           int64_t bytes) {
    if (auto held = Find(packing, shape)) return held;
    std::erase_if(copies_, [](const Copy& copy) { return copy.memory.expired(); });
    auto made = std::make_shared<const Buffer>(AllocateDevice(device_, bytes));
    copies_.push_back({packing, shape, made});
    return made;
  }

 private:
  struct Copy {
    Packing packing;
    Shape shape;
    std::weak_ptr<const Buffer> memory;
  };

  int device_;
  std::vector<Copy> copies_;
};

}  // namespace convoy::cuda
