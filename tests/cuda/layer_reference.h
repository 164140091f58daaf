// tests/cuda/layer_reference.h - the products of a network, one layer at a time, and what the
// oracle makes of them.
#pragma once

#include <string>
#include <vector>

#include "layers/spec.h"

namespace convoy {

struct TestedLayer {
  std::string name;   // "conv2", or "conv2_of_a_tower": its part on one of two ranks
  LayerSpec spec;     // a Convolution or FullyConnected
  Shape input;        // of one sample
  bool relu = false;  // follows it
};
// Of alexnet2012 on one rank and, if they differ, on the first of two that share it.
std::vector<TestedLayer> LayersWithProducts();

// Numbers that bf16 holds exactly, and what follows from them in fp64.
struct LayerReference {
  Shape x_shape, weight_shape, y_shape;
  std::vector<double> x;  // as a ReLU leaves it: half of it zero
  std::vector<double> weight, bias, dy;
  std::vector<double> y;  // the sums of products, without bias and ReLU
  std::vector<double> dx, weight_gradient, bias_gradient;
};
LayerReference ReferenceOf(const TestedLayer& layer);

}  // namespace convoy
