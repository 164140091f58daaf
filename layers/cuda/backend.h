// layers/cuda/backend.h - the CUDA backend, from inside its module.
#pragma once

#include <memory>

#include "layers/backend.h"

namespace convoy::cuda {

std::unique_ptr<Backend> MakeBackend(const CudaOptions& options);

}  // namespace convoy::cuda
