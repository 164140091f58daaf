// Plays cuDNN for the code around it: loops that follow the sizes, strides and addresses that a
// graph is given. loops_for_cudnn.cc also implements what cudnn_graph.h promises, by them.
#pragma once

#include <cstdint>

#include "layers/cuda/products/cudnn_graph.h"

namespace convoy::cuda {

// Element `i` of memory of `dtype`, fp32 or bf16.
double At(const void* data, DType dtype, int64_t i);
void Set(void* data, DType dtype, int64_t i, double value);

// Writes the result of the problem to the place that `memory` gives.
void RunLoops(const ConvolutionProblem& problem, const ConvolutionMemory& memory);

}  // namespace convoy::cuda
