// layers/cpu/operation.h - the operations of the CPU backend; each lies in a file of its own.
#pragma once

#include <memory>
#include <utility>

#include "layers/operations/operation.h"

namespace convoy::cpu {

// TypedOperation<float> or TypedOperation<BFloat16>, as `dtype` says.
template <template <typename> typename TypedOperation, typename... Args>
std::unique_ptr<Operation> MakeForType(DType dtype, Args&&... args) {
  CONVOY_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, "{}", NameOf(dtype));
  if (dtype == DType::kBFloat16) {
    return std::make_unique<TypedOperation<BFloat16>>(std::forward<Args>(args)...);
  }
  return std::make_unique<TypedOperation<float>>(std::forward<Args>(args)...);
}

// g becomes zero where y is not above zero. Same type and count.
void MaskGradient(const Tensor& y, const Tensor& g, int threads);

// The gradient of a bias: the sum of dy [..., C] over all places. Summed in fp64, thread by thread.
class BiasGradient {
 public:
  BiasGradient(const Tensor& dy, const Tensor& db, int threads);
  void Compute();

 private:
  Tensor dy_, db_;
  int threads_;
  Buffer sums_;  // fp64 [threads, C]
};

class OneDnn;

std::unique_ptr<Operation> MakeConvolution(const Convolution& conv, const Wiring& wiring,
                                           OneDnn& onednn);
std::unique_ptr<Operation> MakeFullyConnected(const Wiring& wiring, OneDnn& onednn);
std::unique_ptr<Operation> MakeActivation(const Activation& activation, const Wiring& wiring);
std::unique_ptr<Operation> MakeLrn(const Lrn& lrn, const Wiring& wiring);
// `lrn`: null, or what is done to x before the maximum is taken.
std::unique_ptr<Operation> MakeMaxPool(const Lrn* lrn, const Pool& pool, const Wiring& wiring);
std::unique_ptr<Operation> MakeAveragePool(const Pool& pool, const Wiring& wiring);
std::unique_ptr<Operation> MakeAdaptiveAveragePool(const Wiring& wiring);
std::unique_ptr<Operation> MakeBatchNorm(const BatchNorm& norm, const Wiring& wiring);
std::unique_ptr<Operation> MakeDropout(const Dropout& dropout, const Wiring& wiring);
std::unique_ptr<Operation> MakeSoftmaxLoss(const SoftmaxCrossEntropy& loss, const Wiring& wiring);

}  // namespace convoy::cpu
