// The CUDA backend on an emulated device (tests/emulation).
#include "layers/cuda/backend.h"
#include "tests/backend/tested.h"

namespace convoy {

std::unique_ptr<Backend> MakeTestedBackend(int, const KernelChoices& choices) {
  return MakeTestedCudaBackend({.kernel_choices = choices});
}

std::unique_ptr<Backend> MakeTestedCudaBackend(const CudaOptions& options) {
  return cuda::MakeBackend(options);
}

std::vector<DType> TestedTypes() { return {DType::kFloat32, DType::kBFloat16}; }

bool FusionKeepsBits() { return true; }

bool IsOnADevice() { return false; }

bool IsEmulated() { return true; }

}  // namespace convoy
