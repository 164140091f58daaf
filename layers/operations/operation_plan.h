// layers/operations/operation_plan.h - which layers run as one operation, and which operations run
// in place.
#pragma once

#include <string>
#include <vector>

#include "layers/network.h"

namespace convoy {

enum class OperationKind {
  kConvolution,
  kFullyConnected,
  kBatchNorm,
  kActivation,
  kLrn,
  kMaxPool,  // with the LRN before it, if there is one
  kAveragePool,
  kAdaptiveAveragePool,
  kDropout,
  kSoftmaxLoss,
};

// Items [begin, end) of a segment. The flags mean what they mean in Wiring (operation.h).
struct PlannedOperation {
  OperationKind kind;
  size_t begin = 0, end = 0;
  std::string name;
  Shape output;  // of one sample
  DType output_dtype = DType::kFloat32;
  bool relu = false;
  bool dy_is_masked = false;
  bool mask_dx = false;
  bool forward_in_place = false;   // y is x
  bool backward_in_place = false;  // dx is dy
};

struct PlanOptions {
  // Convolutions and fully connected layers can apply the gradient of the ReLU that they read too.
  bool products_mask_dx = false;
};

// Matches the items into operations:
//   convolution | fully connected | batch norm, and a ReLU behind it
//   LRN and max pooling
// A ReLU's gradient is applied by whoever writes it first, where that costs nothing: pooling, LRN
// and dropout, and what `backend` says. Fully connected layers in front of the loss write fp32.
std::vector<PlannedOperation> PlanOperations(const SegmentSpec& segment,
                                             const CompileOptions& options,
                                             const PlanOptions& backend = {});

}  // namespace convoy
