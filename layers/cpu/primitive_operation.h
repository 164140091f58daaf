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

// The gradients of weights and bias.
struct WeightGradient {
  PrimitiveSequence product;
  std::optional<BiasGradient> bias;  // if the product does not write it
};

struct PrimitiveSet {
  PrimitiveSequence forward;
  WeightGradient backward_weights;  // empty when the network does not train
  WeightGradient adding_weights;    // adds to what is there; empty unless the network accumulates
  PrimitiveSequence backward_data;  // empty if nobody can ask for dx
  double flops = 0;                 // of each
  std::vector<Buffer> storage;      // weights in oneDNN's order
};

std::unique_ptr<Operation> MakePrimitiveOperation(const Wiring& wiring, PrimitiveSet primitives);

}  // namespace convoy::cpu
