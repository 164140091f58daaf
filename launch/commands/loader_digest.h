// launch/commands/loader_digest.h - one number for everything that reaches the network of a batch.
#pragma once

#include <cstdint>

#include "comm/world.h"
#include "core/tensor/batch.h"

namespace convoy {

// A 64-bit hash of the rows with samples, in the order of their positions: the same on any number
// of ranks and threads. The ranks of `world` hold parts of one global batch; where towers share
// their rows, `counts` is set on one of each replica. Collective.
uint64_t DigestOf(const Batch& batch, bool counts, World& world);

}  // namespace convoy
