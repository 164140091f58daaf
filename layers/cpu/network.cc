#include "layers/cpu/network.h"

#include <algorithm>
#include <utility>

#include "layers/cpu/onednn.h"
#include "layers/cpu/operation.h"
#include "layers/cpu/plan.h"
#include "layers/cpu/threads.h"

namespace convoy::cpu {
namespace {

LayerParameters ParametersAt(const SegmentSpec::Item& item, const Shape& input, bool training,
                             const NetworkArenas& arenas) {
  LayerParameters result;
  const ArenaLayout& layout = *arenas.parameter_layout;
  for (const ParameterInfo& parameter : ParametersOf(item.layer, input)) {
    const ArenaEntry& entry = layout.Find(parameter.name);
    const bool is_weight = parameter.name.ends_with(".weight");
    (is_weight ? result.weight_entry : result.bias_entry) = &entry;
    (is_weight ? result.weight : result.bias) = layout.View(arenas.parameters, parameter.name);
    if (is_weight) result.compute_weight = layout.View(arenas.compute, parameter.name);
    if (training) {
      (is_weight ? result.weight_gradient : result.bias_gradient) =
          layout.View(arenas.gradients, parameter.name);
    }
  }
  for (const BufferInfo& buffer : BuffersOf(item.layer, input)) {
    const bool is_mean = buffer.name.ends_with(".running_mean");
    (is_mean ? result.running_mean : result.running_variance) =
        arenas.buffer_layout->View(arenas.buffers, buffer.name);
  }
  return result;
}

std::unique_ptr<Operation> MakeOperation(const PlannedOperation& planned,
                                         const SegmentSpec& segment, const Wiring& wiring,
                                         OneDnn& onednn) {
  const Layer& first = segment.items[planned.begin].layer.layer;
  const Layer& last = segment.items[planned.end - 1].layer.layer;
  switch (planned.kind) {
    case OperationKind::kConvolution:
      return MakeConvolution(std::get<Convolution>(first), wiring, onednn);
    case OperationKind::kFullyConnected:
      return MakeFullyConnected(wiring, onednn);
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

class CpuNetwork final : public Network {
 public:
  CpuNetwork(const SegmentSpec& segment, const CompileOptions& options, const NetworkArenas& arenas,
             int threads)
      : threads_(threads),
        item_count_(segment.items.size()),
        training_(options.training),
        may_give_input_gradient_(segment.needs_input_gradient && options.training),
        plan_(PlanOperations(segment, options)) {
    const ThreadScope scope(threads);
    ends_in_loss_ = !plan_.empty() && plan_.back().kind == OperationKind::kSoftmaxLoss;
    AllocateActivations(segment, options);
    if (training_) AllocateGradients(options);
    Shape input = segment.input;
    for (size_t i = 0; i < plan_.size(); ++i) {
      operations_.push_back(
          MakeOperation(plan_[i], segment, WiringOf(i, segment, input, arenas), onednn_));
      input = plan_[i].output;
    }
    onednn_.AllocateScratchpad();
    SetLearning(std::vector<bool>(item_count_, true), may_give_input_gradient_);
  }

  Tensor input() const override { return activations_.front(); }
  Tensor output() const override { return activations_.back(); }
  Tensor output_gradient() const override { return gradients_.back(); }
  Tensor input_gradient() const override { return input_gradient_ ? gradients_.front() : Tensor{}; }

  void Forward(const StepContext& context) override {
    const ThreadScope scope(threads_);
    for (size_t i = 0; i < operations_.size(); ++i) {
      const PhaseTimer timer(context, plan_[i].name, "forward");
      operations_[i]->Forward(context);
    }
  }

  void Backward(const StepContext& context, BackwardObserver& observer) override {
    CONVOY_CHECK(training_, "backward of a network that was compiled for evaluation");
    const ThreadScope scope(threads_);
    for (size_t i = operations_.size(); i-- > lowest_;) {
      operations_[i]->Backward(
          context,
          {.learns = learns_[i], .wants_dx = i > lowest_ || input_gradient_, .observer = observer});
    }
  }

  void SetLearning(const std::vector<bool>& learns, bool input_gradient) override {
    CONVOY_CHECK(learns.size() == item_count_, "{} flags for {} layers", learns.size(),
                 item_count_);
    CONVOY_CHECK(!input_gradient || may_give_input_gradient_,
                 "the segment was compiled without an input gradient");
    input_gradient_ = input_gradient;
    learns_.clear();
    // Only the first layer of an operation can have parameters.
    for (const PlannedOperation& planned : plan_) learns_.push_back(learns[planned.begin]);
    lowest_ = 0;
    if (input_gradient) return;
    while (lowest_ < plan_.size() && !(learns_[lowest_] && has_parameters_[lowest_])) ++lowest_;
  }

  LossSums ReadLoss(Stream&) override {
    CONVOY_CHECK(ends_in_loss_, "this segment does not end in the loss");
    return operations_.back()->ReadLoss();
  }

  Tensor Activation(int index) const override {
    for (size_t i = 0; i < plan_.size(); ++i) {
      if (plan_[i].end != static_cast<size_t>(index) + 1) continue;
      const bool is_overwritten = i + 1 < plan_.size() && plan_[i + 1].forward_in_place;
      return is_overwritten ? Tensor{} : activations_[i + 1];
    }
    return {};
  }

  std::vector<OperationLimit> MeasureLimits(int repetitions) override {
    const ThreadScope scope(threads_);
    std::vector<OperationLimit> limits;
    for (const auto& operation : operations_) operation->AppendLimits(repetitions, limits);
    return limits;
  }

 private:
  Tensor AllocateTensor(DType dtype, const Shape& shape) {
    storage_.push_back(AllocateHost(shape.count() * SizeOf(dtype)));
    return ViewOf(storage_.back(), dtype, shape);
  }

  void AllocateActivations(const SegmentSpec& segment, const CompileOptions& options) {
    activations_.push_back(AllocateTensor(options.dtype, segment.input.Prepend(options.batch)));
    for (const PlannedOperation& planned : plan_) {
      const Shape shape = planned.output.Prepend(options.batch);
      activations_.push_back(planned.forward_in_place
                                 ? activations_.back().Reshape(shape)
                                 : AllocateTensor(planned.output_dtype, shape));
    }
    gradients_.resize(activations_.size());
  }

  // Backward needs two gradients at a time: that of an operation's output and that of its input.
  // They take turns in two slots, each as large as the largest gradient that comes to lie in it.
  void AllocateGradients(const CompileOptions& options) {
    std::vector<size_t> slots(gradients_.size());
    for (size_t i = plan_.size(); i-- > 0;) {
      slots[i] = plan_[i].backward_in_place ? slots[i + 1] : 1 - slots[i + 1];
    }
    const size_t first = may_give_input_gradient_ ? 0 : 1;
    const size_t end = ends_in_loss_ ? plan_.size() : plan_.size() + 1;
    int64_t largest[2] = {0, 0};
    for (size_t i = first; i < end; ++i) {
      largest[slots[i]] = std::max(largest[slots[i]], activations_[i].count());
    }
    const Tensor slot[2] = {AllocateTensor(options.dtype, Shape{largest[0]}),
                            AllocateTensor(options.dtype, Shape{largest[1]})};
    for (size_t i = first; i < end; ++i) {
      const Shape& shape = activations_[i].shape;
      gradients_[i] = slot[slots[i]].Range(0, shape.count()).Reshape(shape);
    }
  }

  Wiring WiringOf(size_t i, const SegmentSpec& segment, const Shape& input,
                  const NetworkArenas& arenas) {
    const PlannedOperation& planned = plan_[i];
    const SegmentSpec::Item& item = segment.items[planned.begin];
    Wiring wiring{.name = planned.name,
                  .item = item,
                  .x = activations_[i],
                  .y = activations_[i + 1],
                  .dx = gradients_[i],
                  .dy = gradients_[i + 1],
                  .parameters = ParametersAt(item, input, training_, arenas),
                  .threads = threads_,
                  .training = training_,
                  .relu = planned.relu,
                  .dy_is_masked = planned.dy_is_masked,
                  .mask_dx = planned.mask_dx};
    has_parameters_.push_back(wiring.parameters.weight_entry != nullptr);
    return wiring;
  }

  int threads_;
  size_t item_count_;
  bool training_;
  bool may_give_input_gradient_;
  bool ends_in_loss_ = false;
  bool input_gradient_ = false;
  size_t lowest_ = 0;  // no gradient is computed below this operation
  std::vector<PlannedOperation> plan_;
  std::vector<bool> learns_, has_parameters_;  // per operation
  std::vector<Buffer> storage_;
  std::vector<Tensor> activations_, gradients_;  // i: before operation i; the last one behind all
  OneDnn onednn_;
  std::vector<std::unique_ptr<Operation>> operations_;
};

}  // namespace

void LayerParameters::ReportReady(BackwardObserver& observer) const {
  for (const ArenaEntry* entry : {weight_entry, bias_entry}) {
    if (entry != nullptr) observer.GradientReady(entry->offset, entry->shape.count());
  }
}

void LayerParameters::ReportReleased(BackwardObserver& observer) const {
  for (const ArenaEntry* entry : {weight_entry, bias_entry}) {
    if (entry != nullptr) observer.WeightsReleased(entry->offset, entry->shape.count());
  }
}

std::unique_ptr<Network> MakeNetwork(const SegmentSpec& segment, const CompileOptions& options,
                                     const NetworkArenas& arenas, int threads) {
  return std::make_unique<CpuNetwork>(segment, options, arenas, threads);
}

}  // namespace convoy::cpu
