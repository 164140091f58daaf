// core/device/cuda_module.h - the CUDA backend and the NCCL communicator are one module, loaded at
// run time: so that one program starts with and without CUDA's libraries.
#pragma once

namespace convoy {

// The address of a function that the module exports with C linkage. Loads the module first, once
// for the process; it stays loaded. Throws (kDevice) that says why the module cannot be used: built
// without CUDA, or which of CUDA's libraries is missing.
void* CudaModuleFunction(const char* name);

}  // namespace convoy

// Declares and defines a function that the module exports. Its declaration stands in a header that
// both sides include; the program never calls it by that name, it looks it up:
//   CONVOY_CUDA_MODULE_FUNCTION int convoy_nccl_version();         in the header
//   CONVOY_FROM_CUDA_MODULE(convoy_nccl_version)()                 in the program
#define CONVOY_CUDA_MODULE_FUNCTION extern "C" __attribute__((visibility("default")))

// Returns the module's function of that name, with the type that its header declares. Throws as
// CudaModuleFunction does.
#define CONVOY_FROM_CUDA_MODULE(function) \
  reinterpret_cast<decltype(&(function))>(::convoy::CudaModuleFunction(#function))
