#include "core/device/cuda_module.h"
#include "layers/backend.h"

namespace convoy {

std::unique_ptr<Backend> MakeCudaBackend(const CudaOptions& options) {
  const auto make = CudaModuleFunction<Backend*(const CudaOptions&)>("convoy_make_cuda_backend");
  return std::unique_ptr<Backend>(make(options));
}

}  // namespace convoy
