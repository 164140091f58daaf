#include "layers/operations/operation_plan.h"

#include "layers/analysis.h"

namespace convoy {
namespace {

// Returns whether the layer is of one of the kinds.
template <typename... Kinds>
bool Is(const Layer& layer) {
  return (std::holds_alternative<Kinds>(layer) || ...);
}

bool IsRelu(const Layer& layer) {
  const auto* activation = std::get_if<Activation>(&layer);
  return activation != nullptr && activation->kind == ActivationKind::kRelu;
}

bool IsMaxPool(const Layer& layer) {
  const auto* pool = std::get_if<Pool>(&layer);
  return pool != nullptr && pool->kind == PoolKind::kMax;
}

bool CanMaskDx(const Layer& layer, const PlanOptions& backend) {
  return (Is<Convolution, FullyConnected>(layer) && backend.products_mask_dx) ||
         Is<Lrn, Dropout>(layer) || IsMaxPool(layer);
}

// Returns whether backward reads y, so that nothing may overwrite it.
bool NeedsOutput(const PlannedOperation& operation) {
  if (operation.relu) return !operation.dy_is_masked;
  return Is<Activation, SoftmaxCrossEntropy>(operation.layer) ||
         (Is<Dropout>(operation.layer) && operation.mask_dx);
}

// Returns whether forward may write over x, and backward still finds what it needs there. A
// negative slope would turn the sign that backward looks at.
bool MayOverwriteInput(const Layer& layer) {
  if (Is<Dropout>(layer)) return true;
  const auto* activation = std::get_if<Activation>(&layer);
  if (activation == nullptr) return false;
  const bool has_slope =
      activation->kind == ActivationKind::kLeakyRelu || activation->kind == ActivationKind::kElu;
  return !has_slope || activation->slope >= 0;
}

// Returns the operation that starts at item `begin`.
PlannedOperation MatchAt(const std::vector<SegmentSpec::Item>& items, size_t begin) {
  const LayerSpec& first = items[begin].layer;
  PlannedOperation operation{
      .layer = first.layer, .begin = begin, .end = begin + 1, .name = first.name};
  operation.relu = IsRelu(first.layer);
  if (begin + 1 == items.size()) return operation;
  const LayerSpec& next = items[begin + 1].layer;
  if (Is<Convolution, FullyConnected, BatchNorm>(first.layer) && IsRelu(next.layer)) {
    operation.relu = true;
    ++operation.end;
  } else if (Is<Lrn>(first.layer) && IsMaxPool(next.layer)) {
    operation.lrn = std::get<Lrn>(first.layer);
    operation.layer = next.layer;
    operation.name += "+" + next.name;
    ++operation.end;
  }
  return operation;
}

}  // namespace

std::vector<PlannedOperation> PlanOperations(const SegmentSpec& segment,
                                             const CompileOptions& options,
                                             const PlanOptions& backend) {
  std::vector<PlannedOperation> plan;
  const std::vector<LayerSite> sites = SitesOf(segment);
  for (size_t begin = 0; begin < segment.items.size();) {
    PlannedOperation operation = MatchAt(segment.items, begin);
    operation.output = sites[operation.end - 1].output;
    operation.output_dtype =
        Is<SoftmaxCrossEntropy>(operation.layer) ? DType::kFloat32 : options.dtype;
    if (!plan.empty()) {
      PlannedOperation& previous = plan.back();
      if (Is<SoftmaxCrossEntropy>(operation.layer) && !previous.relu &&
          Is<FullyConnected>(previous.layer)) {
        previous.output_dtype = DType::kFloat32;
      }
      operation.mask_dx = CanMaskDx(operation.layer, backend) && previous.relu;
      previous.dy_is_masked = operation.mask_dx;
      operation.forward_in_place =
          MayOverwriteInput(operation.layer) && !(options.training && NeedsOutput(previous));
    }
    operation.backward_in_place = Is<Dropout, Activation, BatchNorm>(operation.layer);
    begin = operation.end;
    plan.push_back(std::move(operation));
  }
  return plan;
}

}  // namespace convoy
