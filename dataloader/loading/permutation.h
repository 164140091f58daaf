// dataloader/loading/permutation.h - the order of an epoch, without a table.
//
// A keyed permutation of [0, size): a Feistel network over the next power of four, whose round
// function is Philox, with cycle walking (Black and Rogaway: "Ciphers with arbitrary finite
// domains", CT-RSA 2002). Any place of any epoch costs the same and nothing is kept.
#pragma once

#include <cstdint>

namespace convoy {

// Returns the sample at `position` of `epoch`. 1 <= size < 2^44, 0 <= position < size.
int64_t PermutedSample(uint64_t seed, int64_t epoch, int64_t size, int64_t position);

// Returns a sample that may replace a bad one at `position`: draw `draw`, from 0. All samples have
// equal chances, bad ones included.
int64_t SubstituteSample(uint64_t seed, int64_t epoch, int64_t size, int64_t position, int draw);

}  // namespace convoy
