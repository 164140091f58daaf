#include "layers/operations/activation_layout.h"

#include <algorithm>
#include <variant>

#include "core/device/memory.h"
#include "layers/memory.h"

namespace convoy {

int64_t ActivationLayout::activation_bytes() const {
  int64_t bytes = 0;
  for (const Activation& one : activations) {
    if (!one.in_place) bytes += one.shape.count() * SizeOf(one.dtype);
  }
  return bytes;
}

int64_t ActivationLayout::gradient_bytes() const {
  return (slot_elements[0] + slot_elements[1]) * SizeOf(gradient_dtype);
}

ActivationLayout LayOutActivations(const SegmentSpec& segment, const CompileOptions& options,
                                   const std::vector<PlannedOperation>& plan) {
  ActivationLayout layout{.gradient_dtype = options.dtype};
  auto& activations = layout.activations;
  activations.push_back({.dtype = options.dtype, .shape = segment.input.Prepend(options.batch)});
  for (const PlannedOperation& planned : plan) {
    const bool in_place = planned.forward_in_place;
    activations.push_back({.dtype = in_place ? activations.back().dtype : planned.output_dtype,
                           .shape = planned.output.Prepend(options.batch),
                           .in_place = in_place});
  }
  if (!options.training) return layout;
  const bool ends_in_loss =
      !plan.empty() && std::holds_alternative<SoftmaxCrossEntropy>(plan.back().layer);
  const size_t first = segment.needs_input_gradient ? 0 : 1;
  int slot = 0;
  for (size_t i = plan.size() + 1; i-- > 0;) {
    if (i < plan.size() && !plan[i].backward_in_place) slot = 1 - slot;
    if (i < first || (i == plan.size() && ends_in_loss)) continue;
    activations[i].gradient_slot = slot;
    layout.slot_elements[slot] = std::max(layout.slot_elements[slot], activations[i].shape.count());
  }
  return layout;
}

SegmentMemory MemoryOf(const SegmentSpec& segment, const CompileOptions& options) {
  const std::vector<PlannedOperation> plan = PlanOperations(segment, options);
  const ActivationLayout layout = LayOutActivations(segment, options, plan);
  const int64_t type = SizeOf(options.dtype);
  SegmentMemory memory;
  for (const ActivationLayout::Activation& one : layout.activations) {
    if (one.in_place) continue;
    memory.activations += HostAllocationBytes(one.shape.count() * SizeOf(one.dtype));
  }
  for (const int64_t elements : layout.slot_elements) {
    if (options.training) memory.gradients += HostAllocationBytes(elements * type);
  }
  const std::vector<LayerSite> sites = SitesOf(segment);
  for (size_t i = 0; i < plan.size(); ++i) {
    const PlannedOperation& planned = plan[i];
    const auto* pool = std::get_if<Pool>(&planned.layer);
    if (pool != nullptr && pool->kind == PoolKind::kMax) {
      memory.maxima += HostAllocationBytes(planned.output.count() * options.batch *
                                           static_cast<int64_t>(sizeof(MaximumPlace)));
    }
    if (!std::holds_alternative<Convolution>(planned.layer)) continue;
    const int64_t weights = sites[planned.begin].parameters.front().shape.count();
    memory.weights += HostAllocationBytes(weights * type);
    if (options.training) {
      memory.weights += HostAllocationBytes(weights * SizeOf(DType::kFloat32));
    }
    if (layout.activations[i].gradient_slot >= 0) {
      memory.weights += HostAllocationBytes(weights * type);
    }
  }
  return memory;
}

}  // namespace convoy
