#include "core/error.h"
#include "tests/backend/tested.h"

namespace convoy {

std::unique_ptr<Backend> MakeTestedBackend(int threads, const KernelChoices&) {
  return MakeCpuBackend(threads);
}

std::vector<DType> TestedTypes() {
  try {
    MakeCpuBackend(1)->RequireDType(DType::kBFloat16);
    return {DType::kFloat32, DType::kBFloat16};
  } catch (const Error&) {
    return {DType::kFloat32};
  }
}

bool FusionKeepsBits() { return true; }

bool IsOnADevice() { return false; }

bool IsEmulated() { return false; }

}  // namespace convoy
