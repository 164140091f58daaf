// layers/operations/operation_plan.h - which layers run as one operation, and which operations run
// in place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/network.h"

namespace convoy {

// One layer, and what of its neighbours runs with it: items [begin, end) of a segment. `lrn` and
// the flags mean what they mean in Wiring (operation.h).
struct PlannedOperation {
  Layer layer;
  std::optional<Lrn> lrn;
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
//   convolution | fully connected | batch norm, with the ReLU that follows it
//   max pooling, with the LRN before it
// The operation that first writes the gradient of a ReLU's output applies the ReLU's own gradient
// too, if that costs nothing: pooling, LRN and dropout do, and what `backend` says. A fully
// connected layer just before the loss writes fp32.
std::vector<PlannedOperation> PlanOperations(const SegmentSpec& segment,
                                             const CompileOptions& options,
                                             const PlanOptions& backend = {});

}  // namespace convoy
