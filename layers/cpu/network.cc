#include "layers/cpu/network.h"

#include "layers/cpu/onednn.h"
#include "layers/cpu/operation.h"
#include "layers/cpu/threads.h"
#include "layers/operations/operation_network.h"

namespace convoy::cpu {
namespace {

class CpuFactory : public OperationFactory {
 public:
  Buffer Allocate(int64_t bytes) override { return AllocateHost(bytes); }

  std::unique_ptr<Operation> Make(const PlannedOperation& planned, const Layer& first,
                                  const Layer& last, const Wiring& wiring) override {
    switch (planned.kind) {
      case OperationKind::kConvolution:
        return MakeConvolution(std::get<Convolution>(first), wiring, onednn_);
      case OperationKind::kFullyConnected:
        return MakeFullyConnected(wiring, onednn_);
      case OperationKind::kBatchNorm:
        return MakeBatchNorm(std::get<BatchNorm>(first), wiring);
      case OperationKind::kActivation:
        return MakeActivation(std::get<Activation>(first), wiring);
      case OperationKind::kLrn:
        return MakeLrn(std::get<Lrn>(first), wiring);
      case OperationKind::kMaxPool:
        return MakeMaxPool(std::get_if<Lrn>(&first), std::get<Pool>(last), wiring);
      case OperationKind::kAveragePool:
        return MakeAveragePool(std::get<Pool>(first), wiring);
      case OperationKind::kAdaptiveAveragePool:
        return MakeAdaptiveAveragePool(wiring);
      case OperationKind::kDropout:
        return MakeDropout(std::get<Dropout>(first), wiring);
      case OperationKind::kSoftmaxLoss:
        return MakeSoftmaxLoss(std::get<SoftmaxCrossEntropy>(first), wiring);
    }
    return nullptr;
  }

  void AllocateScratchpad() { onednn_.AllocateScratchpad(); }

 private:
  OneDnn onednn_;
};

class CpuNetwork final : private CpuFactory, public OperationNetwork {
 public:
  CpuNetwork(const SegmentSpec& segment, const CompileOptions& options, const NetworkArenas& arenas,
             int threads)
      : OperationNetwork(segment, options, arenas, PlanOperations(segment, options),
                         static_cast<CpuFactory&>(*this), threads),
        threads_(threads) {
    AllocateScratchpad();
  }

  void Forward(const StepContext& context) override {
    const ThreadScope scope(threads_);
    OperationNetwork::Forward(context);
  }
  void Backward(const StepContext& context, BackwardObserver& observer) override {
    const ThreadScope scope(threads_);
    OperationNetwork::Backward(context, observer);
  }
  std::vector<OperationLimit> MeasureLimits(int repetitions) override {
    const ThreadScope scope(threads_);
    return OperationNetwork::MeasureLimits(repetitions);
  }

 private:
  int threads_;
};

}  // namespace

std::unique_ptr<Network> MakeNetwork(const SegmentSpec& segment, const CompileOptions& options,
                                     const NetworkArenas& arenas, int threads) {
  const ThreadScope scope(threads);
  return std::make_unique<CpuNetwork>(segment, options, arenas, threads);
}

}  // namespace convoy::cpu
