// layers/cpu/operation.h - the inside of the CPU backend: what a network runs, one after another.
//
// plan.h matches the layers of a segment into operations and lays out their memory; each operation
// lies in a file of its own. An operation holds pointers into activations, gradients and arenas
// that the network owns; everything it needs in a step is made when the network is compiled.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/layers.h"

namespace convoy::cpu {

// The learned tensors and buffers of one layer; empty where there is none.
struct LayerParameters {
  const ArenaEntry* weight_entry = nullptr;
  const ArenaEntry* bias_entry = nullptr;
  Tensor weight, bias;                    // master, fp32
  Tensor compute_weight;                  // in the network's type
  Tensor weight_gradient, bias_gradient;  // fp32; empty when the network does not train
  Tensor running_mean, running_variance;  // fp32

  void ReportReady(BackwardObserver& observer) const;
  void ReportReleased(BackwardObserver& observer) const;
};

// What an operation is connected to. Activations are [N, H, W, C] or [N, F]; y may be x, and dx may
// be dy, where the plan runs the operation in place. dx and dy are empty when the network does not
// train; dx is empty too where nobody can ask for it.
struct Wiring {
  std::string name;  // as OperationTimer prints it: "conv1", "norm1+pool1"
  SegmentSpec::Item item;
  Tensor x, y, dx, dy;
  LayerParameters parameters;
  int threads = 1;
  bool training = false;

  bool relu = false;          // the operation ends in a ReLU
  bool dy_is_masked = false;  // dy arrives as zero where that ReLU gave zero
  bool mask_dx = false;       // x comes from a ReLU: dx is zero where x is
};

struct BackwardRequest {
  bool learns = false;    // write the weights' gradients
  bool wants_dx = false;  // write dx
  BackwardObserver& observer;
};

class Operation {
 public:
  virtual ~Operation() = default;
  virtual void Forward(const StepContext& context) = 0;
  virtual void Backward(const StepContext& context, const BackwardRequest& request) = 0;
  // The vendor's primitives of this operation, timed alone.
  virtual void AppendLimits(int repetitions, std::vector<OperationLimit>& limits) {
    (void)repetitions, (void)limits;
  }
  // The loss alone answers.
  virtual LossSums ReadLoss() const { return {}; }
};

// TypedOperation<float> or TypedOperation<BFloat16>, as `dtype` says.
template <template <typename> typename TypedOperation, typename... Args>
std::unique_ptr<Operation> MakeForType(DType dtype, Args&&... args) {
  CONVOY_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, "{}", NameOf(dtype));
  if (dtype == DType::kBFloat16) {
    return std::make_unique<TypedOperation<BFloat16>>(std::forward<Args>(args)...);
  }
  return std::make_unique<TypedOperation<float>>(std::forward<Args>(args)...);
}

// Tells the context's timer, if there is one, how long this object lived.
class PhaseTimer {
 public:
  PhaseTimer(const StepContext& context, const std::string& name, const char* phase)
      : timer_(context.timer), name_(name), phase_(phase) {
    if (timer_ != nullptr) start_ = Clock::now();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;
  ~PhaseTimer() {
    if (timer_ == nullptr) return;
    const std::chrono::duration<double> seconds = Clock::now() - start_;
    timer_->Record(name_ + " " + phase_, seconds.count());
  }

 private:
  using Clock = std::chrono::steady_clock;
  OperationTimer* timer_;
  const std::string& name_;
  const char* phase_;
  Clock::time_point start_;
};

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
