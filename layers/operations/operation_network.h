// layers/operations/operation_network.h - a network that runs its operations one after another:
// what every backend but the oracle is made of.
#pragma once

#include <memory>
#include <vector>

#include "layers/network.h"
#include "layers/operations/activation_layout.h"
#include "layers/operations/operation.h"
#include "layers/operations/operation_plan.h"

namespace convoy {

// What a backend adds: its memory and its operations. A network calls this while it is made, and
// keeps it as long as its operations.
class OperationFactory {
 public:
  virtual ~OperationFactory() = default;
  // Hears the bytes of all activations and gradients, for `rows` rows, before the first Allocate.
  // May throw (kDevice) when they cannot be had.
  virtual void Announce(int64_t bytes, int64_t rows) { (void)bytes, (void)rows; }
  // Returns device memory, zeroed.
  virtual Buffer Allocate(int64_t bytes) = 0;
  // Makes the operation of `layer`. A backend has an overload per kind of layer and visits them.
  virtual std::unique_ptr<Operation> Make(const Layer& layer, const Wiring& wiring) = 0;
  // Called once, after the last Make.
  virtual void Finish() {}
};

// Owns activations and gradients, which lie as LayOutActivations says.
class OperationNetwork : public Network {
 public:
  // `plan`: what PlanOperations(segment, options) returned. `threads` is what operations of a host
  // backend are told.
  OperationNetwork(const SegmentSpec& segment, const CompileOptions& options,
                   const NetworkArenas& arenas, std::vector<PlannedOperation> plan,
                   std::unique_ptr<OperationFactory> factory, int threads = 1);

  Tensor input() const override { return activations_.front(); }
  Tensor output() const override { return activations_.back(); }
  Tensor output_gradient() const override { return gradients_.back(); }
  Tensor input_gradient() const override { return input_gradient_ ? gradients_.front() : Tensor{}; }

  void Forward(const StepContext& context) override;
  void Backward(const StepContext& context, BackwardObserver& observer) override;
  void SetLearning(const std::vector<bool>& learns, bool input_gradient) override;
  Tensor loss_sums() override;
  Tensor Activation(int index) const override;
  std::vector<OperationLimit> MeasureLimits(int repetitions) override;

 protected:
  // Forward and backward of every operation, with the bytes of the activations and gradients that
  // it reads and writes once; no times.
  std::vector<OperationLimit> ActivationTraffic() const;

 private:
  Tensor AllocateTensor(DType dtype, const Shape& shape);
  void Allocate(const ActivationLayout& layout);
  Wiring WiringOf(size_t i, const SegmentSpec& segment, const LayerSite& site,
                  const NetworkArenas& arenas, int threads);

  const std::unique_ptr<OperationFactory> factory_;
  size_t item_count_;
  bool training_, accumulates_;
  bool may_give_input_gradient_;
  bool ends_in_loss_ = false;
  bool input_gradient_ = false;
  size_t lowest_ = 0;  // no gradient is computed below this operation
  std::vector<PlannedOperation> plan_;
  std::vector<bool> learns_, has_parameters_;  // per operation
  std::vector<Buffer> storage_;
  std::vector<Tensor> activations_, gradients_;  // i: before operation i; the last one after all
  std::vector<std::unique_ptr<Operation>> operations_;
};

}  // namespace convoy
