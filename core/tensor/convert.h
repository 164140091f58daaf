// core/tensor/convert.h - fp32 and bf16 on the host.
#pragma once

#include "core/tensor/tensor.h"

namespace convoy {

// to = from, rounded to nearest if bf16 is written; fp32 to bf16 or bf16 to fp32, as many
// elements. Host memory.
void ConvertOnHost(const Tensor& from, const Tensor& to);

}  // namespace convoy
