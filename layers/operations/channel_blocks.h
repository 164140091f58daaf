// layers/operations/channel_blocks.h - how blocks of channels lie beside the whole activation.
#pragma once

#include <cstdint>

#include "core/error.h"
#include "core/tensor/tensor.h"

namespace convoy {

// The sizes, in elements, of what Backend::ConcatenateChannels and SplitChannels move. Block g has
// ShareOf(channels, groups, g).count channels and begins at element g * capacity of `blocks`.
struct ChannelBlocks {
  int64_t groups;    // G
  int64_t channels;  // C, of the whole activation
  int64_t places;    // N * ...
  int64_t capacity;  // of a block: places * ceil(C / G)
  int64_t shortest;  // channels of a short block
  int64_t longer;    // number of blocks, the first ones, that have one channel more
};

// Throws (kDefect) if the two tensors do not fit together.
inline ChannelBlocks ChannelBlocksOf(const Tensor& blocks, const Tensor& whole) {
  const int64_t groups = blocks.shape[0], channels = whole.shape.back();
  const int64_t places = whole.count() / channels;
  const int64_t longest = (channels + groups - 1) / groups;
  CONVOY_CHECK(blocks.dtype == whole.dtype && blocks.shape.back() == longest &&
                   blocks.count() == groups * places * longest,
               "{} and {}", blocks.shape.ToString(), whole.shape.ToString());
  return {.groups = groups,
          .channels = channels,
          .places = places,
          .capacity = places * longest,
          .shortest = channels / groups,
          .longer = channels % groups};
}

}  // namespace convoy
