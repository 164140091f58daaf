#include "core/device/cuda_module.h"

#include <dlfcn.h>

#include "core/error.h"

namespace convoy {
namespace {

// Found along the program's RUNPATH, which holds the folder of the module, or LD_LIBRARY_PATH.
constexpr char kModule[] = "libconvoy_cuda.so";

}  // namespace

void* CudaModuleFunction(const char* name) {
  // The loader counts and keeps it: a second call finds the same module.
  void* module = dlopen(kModule, RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    const std::string reason = dlerror();
    if (reason.starts_with(kModule)) {
      throw Error(ExitCode::kDevice,
                  "this Convoy was built without CUDA: there is no " + std::string(kModule),
                  "build it where the CUDA toolkit, cuDNN 9 and NCCL 2 are installed, or give "
                  "--backend cpu");
    }
    throw Error(ExitCode::kDevice, "the CUDA backend cannot be loaded: " + reason,
                "install that library or add its folder to LD_LIBRARY_PATH, or give --backend cpu");
  }
  void* function = dlsym(module, name);
  CONVOY_CHECK(function != nullptr, "{} has no {}: it belongs to another version", kModule, name);
  return function;
}

}  // namespace convoy
