// core/cuda/check.h - results of CUDA calls, without CUDA's headers.
#pragma once

namespace convoy::cuda {

// `code`: a cudaError_t. Throws (kDevice) unless it is cudaSuccess, with the call, the device, the
// host and CUDA's words.
void RequireSuccess(int code, const char* call);

// CONVOY_CUDA_CALL(cudaMalloc(&data, size));
#define CONVOY_CUDA_CALL(call) ::convoy::cuda::RequireSuccess((call), #call)

}  // namespace convoy::cuda
