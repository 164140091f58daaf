// layers/cuda/products/cudnn_convolution.h - convolutions by cuDNN, in the variants of
// convolution_variants.h.
#pragma once

#include <vector>

#include "layers/cuda/kernels/workspace_pool.h"
#include "layers/cuda/products/cudnn_graph.h"
#include "layers/cuda/products/kernel_choice.h"
#include "layers/cuda/products/library.h"

namespace convoy::cuda {

// What convolutions are made with; outlives them.
struct ConvolutionResources {
  int device = 0;
  CudnnContext* context = nullptr;
  WorkspacePool* workspace = nullptr;
  WorkspacePool* packed = nullptr;  // copies of x that nobody reads later
  PlanLimits limits;
};

// One group per variant.
std::vector<CandidateGroup> ConvolutionCandidates(ProductPass pass, const Convolution& conv,
                                                  const ProductOperands& operands,
                                                  const ConvolutionResources& resources);

}  // namespace convoy::cuda
