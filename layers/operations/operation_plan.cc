#include "layers/operations/operation_plan.h"

#include "layers/analysis.h"

namespace convoy {
namespace {

OperationKind KindOfItem(const SegmentSpec::Item& item) {
  struct Visitor {
    OperationKind operator()(const Convolution&) { return OperationKind::kConvolution; }
    OperationKind operator()(const FullyConnected&) { return OperationKind::kFullyConnected; }
    OperationKind operator()(const BatchNorm&) { return OperationKind::kBatchNorm; }
    OperationKind operator()(const Activation&) { return OperationKind::kActivation; }
    OperationKind operator()(const Lrn&) { return OperationKind::kLrn; }
    OperationKind operator()(const Pool& pool) {
      return pool.kind == PoolKind::kMax ? OperationKind::kMaxPool : OperationKind::kAveragePool;
    }
    OperationKind operator()(const AdaptiveAveragePool&) {
      return OperationKind::kAdaptiveAveragePool;
    }
    OperationKind operator()(const Dropout&) { return OperationKind::kDropout; }
    OperationKind operator()(const SoftmaxCrossEntropy&) { return OperationKind::kSoftmaxLoss; }
  };
  return std::visit(Visitor{}, item.layer.layer);
}

bool IsRelu(const SegmentSpec::Item& item) {
  const auto* activation = std::get_if<Activation>(&item.layer.layer);
  return activation != nullptr && activation->kind == ActivationKind::kRelu;
}

bool TakesRelu(OperationKind kind) {
  return kind == OperationKind::kConvolution || kind == OperationKind::kFullyConnected ||
         kind == OperationKind::kBatchNorm;
}

bool CanMaskDx(OperationKind kind, const PlanOptions& backend) {
  const bool is_product =
      kind == OperationKind::kConvolution || kind == OperationKind::kFullyConnected;
  return (is_product && backend.products_mask_dx) || kind == OperationKind::kLrn ||
         kind == OperationKind::kMaxPool || kind == OperationKind::kDropout;
}

// Whether backward reads y, so that nothing may overwrite it.
bool NeedsOutput(const PlannedOperation& operation) {
  if (operation.relu) return !operation.dy_is_masked;
  return operation.kind == OperationKind::kActivation ||
         operation.kind == OperationKind::kSoftmaxLoss ||
         (operation.kind == OperationKind::kDropout && operation.mask_dx);
}

// Whether forward may write over x, and backward still finds what it needs there. Below zero, a
// negative slope would turn the sign that backward looks at.
bool MayOverwriteInput(OperationKind kind, const SegmentSpec::Item& item) {
  if (kind == OperationKind::kDropout) return true;
  const auto* activation = std::get_if<Activation>(&item.layer.layer);
  if (activation == nullptr) return false;
  const bool has_slope =
      activation->kind == ActivationKind::kLeakyRelu || activation->kind == ActivationKind::kElu;
  return !has_slope || activation->slope >= 0;
}

// The operation that starts at item `begin`.
PlannedOperation MatchAt(const std::vector<SegmentSpec::Item>& items, size_t begin) {
  PlannedOperation operation{.kind = KindOfItem(items[begin]),
                             .begin = begin,
                             .end = begin + 1,
                             .name = items[begin].layer.name};
  const bool has_next = begin + 1 < items.size();
  if (has_next && TakesRelu(operation.kind) && IsRelu(items[begin + 1])) {
    operation.relu = true;
    ++operation.end;
  } else if (has_next && operation.kind == OperationKind::kLrn &&
             KindOfItem(items[begin + 1]) == OperationKind::kMaxPool) {
    operation.kind = OperationKind::kMaxPool;
    operation.name += "+" + items[begin + 1].layer.name;
    ++operation.end;
  }
  if (IsRelu(items[begin])) operation.relu = true;
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
        operation.kind == OperationKind::kSoftmaxLoss ? DType::kFloat32 : options.dtype;
    if (!plan.empty()) {
      PlannedOperation& previous = plan.back();
      if (operation.kind == OperationKind::kSoftmaxLoss && !previous.relu &&
          previous.kind == OperationKind::kFullyConnected) {
        previous.output_dtype = DType::kFloat32;
      }
      operation.mask_dx = CanMaskDx(operation.kind, backend) && previous.relu;
      previous.dy_is_masked = operation.mask_dx;
      operation.forward_in_place = MayOverwriteInput(operation.kind, segment.items[begin]) &&
                                   !(options.training && NeedsOutput(previous));
    }
    operation.backward_in_place = operation.kind == OperationKind::kDropout ||
                                  operation.kind == OperationKind::kActivation ||
                                  operation.kind == OperationKind::kBatchNorm;
    begin = operation.end;
    plan.push_back(std::move(operation));
  }
  return plan;
}

}  // namespace convoy
