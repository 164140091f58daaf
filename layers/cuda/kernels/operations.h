// layers/cuda/kernels/operations.h - the operations of the CUDA backend, and its kernels outside
// networks. Each lies in a file of its own, with the bytes and flops of its kernels in a comment
// there.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/tensor/tensor.h"
#include "layers/backend.h"
#include "layers/operations/operation.h"

namespace convoy::cuda {

class Library;

// What changes from step to step, in device memory: kernels read it there, so that a recorded step
// can be queued again with other values.
struct StepValues {
  uint64_t seed = 0;
  uint32_t epoch = 0;
  float loss_scale = 1;
  bool operator==(const StepValues&) const = default;
};

// What operations are made with; outlives them.
struct OperationResources {
  int device = 0;
  Library* library = nullptr;
  const StepValues* step_values = nullptr;  // device memory
};

// An overload per kind of layer; a network visits them.
std::unique_ptr<Operation> MakeOperation(const Convolution& conv, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const FullyConnected& fc, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const Activation& activation, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const Lrn& lrn, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const BatchNorm& norm, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const Pool& pool, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const AdaptiveAveragePool& pool, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const Dropout& dropout, const Wiring& wiring,
                                         const OperationResources& resources);
std::unique_ptr<Operation> MakeOperation(const SoftmaxCrossEntropy& loss, const Wiring& wiring,
                                         const OperationResources& resources);

// The two that pooling consists of.
std::unique_ptr<Operation> MakeMaxPool(const Pool& pool, const Wiring& wiring,
                                       const OperationResources& resources);
std::unique_ptr<Operation> MakeAveragePool(const Pool& pool, const Wiring& wiring);

std::unique_ptr<InputStage> MakeInputStage(const InputOptions& options, int device);

// g becomes zero if y is not above zero. Same type and count.
void MaskGradient(Stream& stream, const Tensor& y, const Tensor& g);

// The gradient of a bias: db [C], fp32, the sum of dy [..., C] over all places, in a fixed order.
// Run adds it to what is in db if `adds`.
class BiasGradient {
 public:
  BiasGradient(const Tensor& dy, const Tensor& db, int device);
  void Run(Stream& stream, bool adds);

 private:
  Tensor dy_, db_;
  Buffer sums_;  // of parts of the places
};

// As Backend says (layers/layers.h).
void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole);
void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks);
// to = from, fp32 to bf16 or back.
void Convert(Stream& stream, const Tensor& from, const Tensor& to);

// As Backend::CompileUpdate says. Rates lie in device memory, so that a recorded step can be queued
// again with others.
std::unique_ptr<Updater> MakeUpdater(const UpdateArenas& arenas, const UpdateOptions& options,
                                     int device);

}  // namespace convoy::cuda
