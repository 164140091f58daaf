// layers/cuda/products/cublaslt_matrix.h - fully connected layers by cuBLASLt, without its headers.
//
//   fused   bias and ReLU, or the gradient of the bias, are part of cuBLASLt's kernel
//   plain   own kernels do them after it
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/cuda/kernels/workspace_pool.h"
#include "layers/cuda/products/kernel_choice.h"
#include "layers/cuda/products/library.h"

namespace convoy::cuda {

// A device's cuBLASLt.
class CublasLtContext {
 public:
  // Throws (kDevice) if the library cannot be set up.
  explicit CublasLtContext(int device);
  CublasLtContext(const CublasLtContext&) = delete;
  CublasLtContext& operator=(const CublasLtContext&) = delete;
  ~CublasLtContext();
  void* handle() const { return handle_; }

 private:
  void* handle_ = nullptr;
};

// Returns "cuBLASLt 13.1.0", the one that is loaded.
std::string CublasLtVersion();

// What matrix products are made with; outlives them.
struct MatrixResources {
  int device = 0;
  CublasLtContext* context = nullptr;
  WorkspacePool* workspace = nullptr;
  int64_t workspace_bytes = 0;  // at most
  bool tf32 = false;            // fp32 factors may be rounded to TF32
};

std::vector<CandidateGroup> MatrixCandidates(ProductPass pass, const ProductOperands& operands,
                                             const MatrixResources& resources);

}  // namespace convoy::cuda
