// dataloader/measure.h - what a loader's rate is compared with: libjpeg-turbo decoding the same
// files and doing nothing else.
#pragma once

#include <cstdint>
#include <memory>

#include "dataloader/dataset.h"

namespace convoy {

// Copies samples of `source` into memory, each to an address of its own: in a shuffled order, and
// again from the start until they are `least_bytes` bytes or more. So a short data set is no easier
// for the processor's caches than a long one. Throws what Dataset::Read() throws, and (kData) if
// `source` is empty.
std::shared_ptr<const Dataset> CopyIntoMemory(const Dataset& source, int64_t least_bytes);

enum class DecodeWork {
  kEntropy,  // Huffman or arithmetic decoding of the whole file; only pixels of the last row
  kFull,     // all pixels, in colour
};

// Reads and decodes `count` samples from sample `first` on, and then from sample 0 again, on
// `threads` threads. Skips samples that cannot be decoded. Returns the seconds that it took.
double TimeDecoding(const Dataset& dataset, int64_t first, int64_t count, int threads,
                    DecodeWork work);

}  // namespace convoy
