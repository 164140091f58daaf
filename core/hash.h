// core/hash.h - 64-bit checksums (XXH3) of files, tensors and batches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace convoy {

uint64_t Hash64(const void* data, size_t bytes);
inline uint64_t Hash64(std::string_view text) { return Hash64(text.data(), text.size()); }

// The same hash over data that comes in pieces.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void Add(const void* data, size_t bytes);
  uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
