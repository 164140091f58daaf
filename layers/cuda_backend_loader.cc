#include "layers/cuda/backend.h"

namespace convoy {

std::unique_ptr<Backend> MakeCudaBackend(const CudaOptions& options) {
  return std::unique_ptr<Backend>(CONVOY_FROM_CUDA_MODULE(convoy_make_cuda_backend)(options));
}

}  // namespace convoy
