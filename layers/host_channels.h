// layers/host_channels.h - gathering and splitting channels in host memory, for both host backends.
#pragma once

#include "core/tensor.h"

namespace convoy {

// blocks [G, N, ..., C] -> whole [N, ..., G*C], block g becoming channels [g*C, (g+1)*C); and back.
// Any type. `threads` >= 1.
void ConcatenateHostChannels(const Tensor& blocks, const Tensor& whole, int threads);
void SplitHostChannels(const Tensor& whole, const Tensor& blocks, int threads);

}  // namespace convoy
