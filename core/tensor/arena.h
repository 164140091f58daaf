// core/tensor/arena.h - where named tensors lie in one flat allocation.
//
// A rank's parameters, gradients, optimiser states and buffers are arenas: one allocation each, the
// tensors one after another. The same layout serves the parameters, their gradients and every
// state.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/device/memory.h"
#include "core/error.h"
#include "core/tensor/shape.h"
#include "core/tensor/tensor.h"

namespace convoy {

struct ArenaEntry {
  std::string name;
  Shape shape;
  int64_t offset = 0;  // in elements
};

class ArenaLayout {
 public:
  // Every tensor starts at a multiple of this many elements: 64 bytes even if one has 2.
  static constexpr int64_t kAlignmentElements = kAlignmentBytes / 2;

  // Appends a tensor. Throws (kDefect) when the name is taken.
  void Add(const std::string& name, const Shape& shape) {
    CONVOY_CHECK(index_.emplace(name, entries_.size()).second, "two tensors are named {}", name);
    entries_.push_back({name, shape, count_});
    count_ += RoundUp(shape.count(), kAlignmentElements);
  }

  // Leaves a gap of so many elements after what was added so far.
  void Skip(int64_t elements) { count_ += RoundUp(elements, kAlignmentElements); }

  // Returns the elements of the whole arena, gaps included.
  int64_t count() const { return count_; }
  const std::vector<ArenaEntry>& entries() const { return entries_; }
  bool Has(const std::string& name) const { return index_.contains(name); }
  // Throws (kDefect) when there is no such tensor.
  const ArenaEntry& Find(const std::string& name) const {
    const auto found = index_.find(name);
    CONVOY_CHECK(found != index_.end(), "no tensor is named {}", name);
    return entries_[found->second];
  }
  // Returns the named tensor as a view of `arena`, a flat tensor of this layout.
  Tensor View(const Tensor& arena, const std::string& name) const {
    const ArenaEntry& entry = Find(name);
    return arena.Range(entry.offset, entry.shape.count()).Reshape(entry.shape);
  }

 private:
  std::vector<ArenaEntry> entries_;
  std::unordered_map<std::string, size_t> index_;
  int64_t count_ = 0;
};

}  // namespace convoy
