// layers/operations/activation_layout.h - the memory of a network's activations and gradients:
// which of them have some of their own.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"
#include "layers/network.h"
#include "layers/operations/operation_plan.h"

namespace convoy {

// Backward needs two gradients at a time, that of an operation's output and that of its input: they
// take turns in two slots.
struct ActivationLayout {
  struct Activation {
    DType dtype = DType::kFloat32;
    Shape shape;             // [N, ...]
    bool in_place = false;   // it lies over the one before
    int gradient_slot = -1;  // -1: it has no gradient
  };
  // i: before operation i; the last one after all.
  std::vector<Activation> activations;
  DType gradient_dtype = DType::kFloat32;
  int64_t slot_elements[2] = {0, 0};  // each as large as the largest gradient that lies in it

  int64_t activation_bytes() const;
  int64_t gradient_bytes() const;
};

// `plan`: what PlanOperations(segment, options) returned.
ActivationLayout LayOutActivations(const SegmentSpec& segment, const CompileOptions& options,
                                   const std::vector<PlannedOperation>& plan);

// The place of a maximum in the window of a pooling, one per value that forward writes.
using MaximumPlace = uint16_t;

}  // namespace convoy
