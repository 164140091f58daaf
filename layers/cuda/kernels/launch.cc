#include "layers/cuda/kernels/launch.h"

#include <cuda_runtime.h>

#include "core/cuda/check.h"

namespace convoy::cuda {

void RequireLaunched() { CONVOY_CUDA_CALL(cudaGetLastError()); }

}  // namespace convoy::cuda
