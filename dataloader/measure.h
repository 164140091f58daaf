// dataloader/measure.h - what a loader's rate is held against: the same files decoded by
// libjpeg-turbo and nothing more.
#pragma once

#include <cstdint>
#include <memory>

#include "dataloader/dataset.h"

namespace convoy {

// Samples of `source` in memory, each at an address of its own: in a shuffled order, and again from
// the start as copies, until they are `least_bytes` bytes or more. So a short data set is no
// easier for the processor's caches than a long one. Throws what Dataset::Read() throws, and
// (kData) where `source` is empty.
std::shared_ptr<const Dataset> CopyIntoMemory(const Dataset& source, int64_t least_bytes);

enum class DecodeWork {
  kEntropy,  // Huffman or arithmetic decoding of the whole file; no pixels but those of a last row
  kFull,     // all pixels, in colour
};

// Reads and decodes `count` samples from sample `first` on, then from sample 0 again, on `threads`
// threads. Samples that cannot be decoded are passed over. Returns the seconds that it took.
double TimeDecoding(const Dataset& dataset, int64_t first, int64_t count, int threads,
                    DecodeWork work);

}  // namespace convoy
