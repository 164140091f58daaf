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

// g becomes zero if y is not above zero. Same type and count.
void MaskGradient(const Tensor& y, const Tensor& g, int threads);

// The gradient of a bias: the sum of dy [..., C] over all places. Summed in fp64, thread by thread.
class BiasGradient {
 public:
  BiasGradient(const Tensor& dy, const Tensor& db, int threads);
  // Adds the sum to what is in db if `adds`.
  void Compute(bool adds);

 private:
  Tensor dy_, db_;
  int threads_;
  Buffer sums_;  // fp64 [threads, C]
};

class OneDnn;

// An overload per kind of layer; a network visits them. `onednn` outlives the operation.
std::unique_ptr<Operation> MakeOperation(const Convolution& conv, const Wiring& wiring,
                                         OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const FullyConnected& fc, const Wiring& wiring,
                                         OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const Activation& activation, const Wiring& wiring,
                                         OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const Lrn& lrn, const Wiring& wiring, OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const BatchNorm& norm, const Wiring& wiring,
                                         OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const Pool& pool, const Wiring& wiring, OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const AdaptiveAveragePool& pool, const Wiring& wiring,
                                         OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const Dropout& dropout, const Wiring& wiring,
                                         OneDnn& onednn);
std::unique_ptr<Operation> MakeOperation(const SoftmaxCrossEntropy& loss, const Wiring& wiring,
                                         OneDnn& onednn);

// The two that pooling consists of.
std::unique_ptr<Operation> MakeMaxPool(const Pool& pool, const Wiring& wiring);
std::unique_ptr<Operation> MakeAveragePool(const Pool& pool, const Wiring& wiring);

}  // namespace convoy::cpu
