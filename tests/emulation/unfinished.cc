#include "layers/cuda/operations.h"
#define WEAK __attribute__((weak))
namespace convoy::cuda {
#define FAIL throw Error(ExitCode::kDefect, "not written yet")
WEAK std::unique_ptr<Operation> MakeActivation(const Activation&, const Wiring&) { FAIL; }
WEAK std::unique_ptr<Operation> MakeLrn(const Lrn&, const Wiring&) { FAIL; }
WEAK std::unique_ptr<Operation> MakeMaxPool(const Lrn*, const Pool&, const Wiring&,
                                            const OperationResources&) {
  FAIL;
}
WEAK std::unique_ptr<Operation> MakeAveragePool(const Pool&, const Wiring&) { FAIL; }
WEAK std::unique_ptr<Operation> MakeAdaptiveAveragePool(const Wiring&) { FAIL; }
WEAK std::unique_ptr<Operation> MakeBatchNorm(const BatchNorm&, const Wiring&,
                                              const OperationResources&) {
  FAIL;
}
WEAK std::unique_ptr<Operation> MakeDropout(const Dropout&, const Wiring&,
                                            const OperationResources&) {
  FAIL;
}
WEAK std::unique_ptr<Operation> MakeSoftmaxLoss(const SoftmaxCrossEntropy&, const Wiring&,
                                                const OperationResources&) {
  FAIL;
}
WEAK std::unique_ptr<InputStage> MakeInputStage(const InputOptions&, int) { FAIL; }
WEAK void MaskGradient(Stream&, const Tensor&, const Tensor&) { FAIL; }
WEAK BiasGradient::BiasGradient(const Tensor&, const Tensor&, int) { FAIL; }
WEAK void BiasGradient::Run(Stream&) { FAIL; }
WEAK void ConcatenateChannels(Stream&, const Tensor&, const Tensor&) { FAIL; }
WEAK void SplitChannels(Stream&, const Tensor&, const Tensor&) { FAIL; }
WEAK void UpdateParameters(Stream&, const UpdateRequest&, const DeviceUpdateRange*) { FAIL; }
}  // namespace convoy::cuda
