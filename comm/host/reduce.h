// comm/host/reduce.h - sums, maxima and minima over the ranks' copies of an array.
#pragma once

#include <cstdint>
#include <span>

#include "comm/communicator.h"

namespace convoy {

// destination[i] = sources[0][i] op sources[1][i] op ..., in this order, for every destination. A
// destination may be a source. bf16 is accumulated in fp32 and rounded once; integers wrap.
void ReduceArrays(DType dtype, ReduceOp op, std::span<const void* const> sources,
                  std::span<void* const> destinations, int64_t count);

}  // namespace convoy
