// layers/cpu/primitive_operation.h - an operation that consists of oneDNN primitives: what
// convolutions and fully connected layers have in common.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "layers/cpu/onednn.h"
#include "layers/cpu/operation.h"

namespace convoy::cpu {

// Primitives that run one after another. One of them does the arithmetic; the others put weights
// into the order that it wants.
struct PrimitiveSequence {
  std::vector<BoundPrimitive> before;
  BoundPrimitive main;
  std::vector<BoundPrimitive> after;
};

struct PrimitiveSet {
  PrimitiveSequence forward;
  PrimitiveSequence backward_weights;         // empty when the network does not train
  std::optional<BiasGradient> bias_gradient;  // if backward_weights does not write it
  PrimitiveSequence backward_data;            // empty if nobody can ask for dx
  double flops = 0;                           // of each
  std::vector<Buffer> storage;                // weights in oneDNN's order
};

std::unique_ptr<Operation> MakePrimitiveOperation(const Wiring& wiring, PrimitiveSet primitives);

}  // namespace convoy::cpu
