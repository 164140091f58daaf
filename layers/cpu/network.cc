#include "layers/cpu/network.h"

#include "layers/cpu/onednn.h"
#include "layers/cpu/operation.h"
#include "layers/cpu/threads.h"
#include "layers/operations/operation_network.h"

namespace convoy::cpu {
namespace {

class CpuFactory final : public OperationFactory {
 public:
  Buffer Allocate(int64_t bytes) override { return AllocateHost(bytes); }
  std::unique_ptr<Operation> Make(const Layer& layer, const Wiring& wiring) override {
    return std::visit([&](const auto& spec) { return MakeOperation(spec, wiring, onednn_); },
                      layer);
  }
  void Finish() override { onednn_.AllocateScratchpad(); }

 private:
  OneDnn onednn_;
};

class CpuNetwork final : public OperationNetwork {
 public:
  CpuNetwork(const SegmentSpec& segment, const CompileOptions& options, const NetworkArenas& arenas,
             int threads)
      : OperationNetwork(segment, options, arenas, PlanOperations(segment, options),
                         std::make_unique<CpuFactory>(), threads),
        threads_(threads) {}

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

std::unique_ptr<Operation> MakeOperation(const Pool& pool, const Wiring& wiring, OneDnn&) {
  return pool.kind == PoolKind::kMax ? MakeMaxPool(pool, wiring) : MakeAveragePool(pool, wiring);
}

std::unique_ptr<Network> MakeNetwork(const SegmentSpec& segment, const CompileOptions& options,
                                     const NetworkArenas& arenas, int threads) {
  const ThreadScope scope(threads);
  return std::make_unique<CpuNetwork>(segment, options, arenas, threads);
}

}  // namespace convoy::cpu
