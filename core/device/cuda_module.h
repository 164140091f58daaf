// core/device/cuda_module.h - the CUDA backend and the NCCL communicator are one module, loaded at
// run time: so that one program starts with and without CUDA's libraries.
#pragma once

#include <string>

namespace convoy {

// The address of a function that the module exports with C linkage. Loads the module first, once
// for the process; it stays loaded. Throws (kDevice) that says why the module cannot be used: built
// without CUDA, or which of CUDA's libraries is missing.
void* CudaModuleFunction(const char* name);

// The same, typed: CudaModuleFunction<Backend*(const CudaOptions&)>("convoy_make_cuda_backend").
template <typename Function>
Function* CudaModuleFunction(const char* name) {
  return reinterpret_cast<Function*>(CudaModuleFunction(name));
}

}  // namespace convoy
