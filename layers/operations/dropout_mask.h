// layers/operations/dropout_mask.h - which activations dropout keeps: a function shared by every
// backend.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/random.h"

namespace convoy {

// The mask of one sample and one layer. Element: of the uncut activation, in H, W, C order.
class DropoutMask {
 public:
  // layer_index: of the uncut network. position: the sample's place in the epoch, over all ranks.
  constexpr DropoutMask(uint64_t seed, int layer_index, int64_t epoch, int64_t position)
      : key_{seed, Purpose::kDropout, static_cast<uint32_t>(layer_index),
             static_cast<uint32_t>(epoch), static_cast<uint64_t>(position)} {}

  // Four draws at once: elements 4 * block .. 4 * block + 3 are kept if the word is not below
  // Threshold(rate).
  RandomWords Words(int64_t block) const { return RandomBlock(key_, static_cast<uint32_t>(block)); }
  // Returns the same in a kernel, in which nothing checks the limits of core/random.h.
  constexpr RandomWords UncheckedWords(int64_t block) const {
    const RandomOrigin origin = OriginOf(key_, static_cast<uint32_t>(block));
    return Philox(origin.counter, origin.key);
  }
  // Writes the draws of elements 4 * first_block and on, four per block.
  void FillWords(int64_t first_block, int64_t block_count, uint32_t* words) const {
    RandomBlocks(key_, static_cast<uint32_t>(first_block), block_count, words);
  }
  bool Keeps(int64_t element, double rate) const {
    return Words(element / 4)[static_cast<size_t>(element % 4)] >= Threshold(rate);
  }
  // P(word < Threshold(rate)) = rate, to 2^-32; rate in [0, 1).
  static uint32_t Threshold(double rate) { return static_cast<uint32_t>(rate * 0x1p32); }

 private:
  RandomKey key_;
};

}  // namespace convoy
