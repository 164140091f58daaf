#include "layers/operations/operation_network.h"

#include <utility>

#include "layers/analysis.h"

namespace convoy {
namespace {

LayerParameters ParametersAt(const LayerSite& site, bool training, const NetworkArenas& arenas) {
  LayerParameters result;
  const ArenaLayout& layout = *arenas.parameter_layout;
  for (const ParameterInfo& parameter : site.parameters) {
    const ArenaEntry& entry = layout.Find(parameter.name);
    const bool is_weight = parameter.role == ParameterRole::kWeight;
    (is_weight ? result.weight_entry : result.bias_entry) = &entry;
    (is_weight ? result.weight : result.bias) = layout.View(arenas.parameters, parameter.name);
    (is_weight ? result.compute_weight : result.compute_bias) =
        layout.View(arenas.compute, parameter.name);
    if (training) {
      (is_weight ? result.weight_gradient : result.bias_gradient) =
          layout.View(arenas.gradients, parameter.name);
    }
  }
  for (const BufferInfo& buffer : site.buffers) {
    const bool is_mean = buffer.role == BufferRole::kRunningMean;
    (is_mean ? result.running_mean : result.running_variance) =
        arenas.buffer_layout->View(arenas.buffers, buffer.name);
  }
  return result;
}

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

OperationNetwork::OperationNetwork(const SegmentSpec& segment, const CompileOptions& options,
                                   const NetworkArenas& arenas, std::vector<PlannedOperation> plan,
                                   std::unique_ptr<OperationFactory> factory, int threads)
    : factory_(std::move(factory)),
      item_count_(segment.items.size()),
      training_(options.training),
      accumulates_(options.accumulates),
      may_give_input_gradient_(segment.needs_input_gradient && options.training),
      plan_(std::move(plan)) {
  ends_in_loss_ = !plan_.empty() && std::holds_alternative<SoftmaxCrossEntropy>(plan_.back().layer);
  const ActivationLayout layout = LayOutActivations(segment, options, plan_);
  factory_->Announce(layout.activation_bytes() + layout.gradient_bytes(), options.batch);
  Allocate(layout);
  const std::vector<LayerSite> sites = SitesOf(segment);
  for (size_t i = 0; i < plan_.size(); ++i) {
    operations_.push_back(factory_->Make(
        plan_[i].layer, WiringOf(i, segment, sites[plan_[i].begin], arenas, threads)));
  }
  factory_->Finish();
  OperationNetwork::SetLearning(std::vector<bool>(item_count_, true), may_give_input_gradient_);
}

void OperationNetwork::Forward(const StepContext& context) {
  for (size_t i = 0; i < operations_.size(); ++i) {
    const PhaseTimer timer(context, plan_[i].name, "forward");
    operations_[i]->Forward(context);
  }
}

void OperationNetwork::Backward(const StepContext& context, BackwardObserver& observer) {
  CONVOY_CHECK(training_, "backward of a network that was compiled for evaluation");
  CONVOY_CHECK(accumulates_ || !context.adds_gradients,
               "the network was not compiled to add gradients");
  for (size_t i = operations_.size(); i-- > lowest_;) {
    operations_[i]->Backward(context, {.learns = learns_[i],
                                       .adds = context.adds_gradients,
                                       .wants_dx = i > lowest_ || input_gradient_,
                                       .observer = observer});
  }
}

void OperationNetwork::SetLearning(const std::vector<bool>& learns, bool input_gradient) {
  CONVOY_CHECK(learns.size() == item_count_, "{} flags for {} layers", learns.size(), item_count_);
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

Tensor OperationNetwork::loss_sums() {
  CONVOY_CHECK(ends_in_loss_, "this segment does not end in the loss");
  return operations_.back()->loss_sums();
}

Tensor OperationNetwork::Activation(int index) const {
  for (size_t i = 0; i < plan_.size(); ++i) {
    if (plan_[i].end != static_cast<size_t>(index) + 1) continue;
    const bool is_overwritten = i + 1 < plan_.size() && plan_[i + 1].forward_in_place;
    return is_overwritten ? Tensor{} : activations_[i + 1];
  }
  return {};
}

std::vector<OperationLimit> OperationNetwork::MeasureLimits(int repetitions) {
  std::vector<OperationLimit> limits;
  for (const auto& operation : operations_) operation->AppendLimits(repetitions, limits);
  return limits;
}

std::vector<OperationLimit> OperationNetwork::ActivationTraffic() const {
  std::vector<OperationLimit> traffic;
  for (size_t i = 0; i < plan_.size(); ++i) {
    const int64_t in = activations_[i].bytes(), out = activations_[i + 1].bytes();
    traffic.push_back(
        {.operation = plan_[i].name + " forward", .bytes = static_cast<double>(in + out)});
    if (!gradients_[i]) continue;
    // x, or what stands for it, is read again beside the gradients.
    const int64_t gradients = gradients_[i].bytes() + gradients_[i + 1].bytes();
    traffic.push_back(
        {.operation = plan_[i].name + " backward", .bytes = static_cast<double>(in + gradients)});
  }
  return traffic;
}

Tensor OperationNetwork::AllocateTensor(DType dtype, const Shape& shape) {
  storage_.push_back(factory_->Allocate(shape.count() * SizeOf(dtype)));
  return ViewOf(storage_.back(), dtype, shape);
}

void OperationNetwork::Allocate(const ActivationLayout& layout) {
  for (const ActivationLayout::Activation& one : layout.activations) {
    activations_.push_back(one.in_place ? activations_.back().Reshape(one.shape)
                                        : AllocateTensor(one.dtype, one.shape));
  }
  gradients_.resize(activations_.size());
  if (!training_) return;
  Tensor slots[2];
  for (size_t i = 0; i < 2; ++i) {
    slots[i] = AllocateTensor(layout.gradient_dtype, Shape{layout.slot_elements[i]});
  }
  for (size_t i = 0; i < gradients_.size(); ++i) {
    const int slot = layout.activations[i].gradient_slot;
    if (slot < 0) continue;
    const Shape& shape = activations_[i].shape;
    gradients_[i] = slots[slot].Range(0, shape.count()).Reshape(shape);
  }
}

Wiring OperationNetwork::WiringOf(size_t i, const SegmentSpec& segment, const LayerSite& site,
                                  const NetworkArenas& arenas, int threads) {
  const PlannedOperation& planned = plan_[i];
  const SegmentSpec::Item& item = segment.items[planned.begin];
  Wiring wiring{.name = planned.name,
                .item = item,
                .x = activations_[i],
                .y = activations_[i + 1],
                .dx = gradients_[i],
                .dy = gradients_[i + 1],
                .parameters = ParametersAt(site, training_, arenas),
                .threads = threads,
                .training = training_,
                .accumulates = accumulates_,
                .lrn = planned.lrn,
                .relu = planned.relu,
                .dy_is_masked = planned.dy_is_masked,
                .mask_dx = planned.mask_dx};
  has_parameters_.push_back(wiring.parameters.weight_entry != nullptr);
  return wiring;
}

}  // namespace convoy
