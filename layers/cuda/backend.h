// layers/cuda/backend.h - the CUDA backend inside its module, and how the program gets it.
#pragma once

#include <memory>

#include "core/device/cuda_module.h"
#include "layers/backend.h"

namespace convoy::cuda {

std::unique_ptr<Backend> MakeBackend(const CudaOptions& options);

}  // namespace convoy::cuda

// In the module: MakeBackend, whose result the caller owns.
CONVOY_CUDA_MODULE_FUNCTION convoy::Backend* convoy_make_cuda_backend(
    const convoy::CudaOptions& options);
