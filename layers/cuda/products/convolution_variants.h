// layers/cuda/products/convolution_variants.h - the ways in which a convolution can be computed by
// cuDNN and own kernels around it. Knows no vendor.
//
//   grouped     cuDNN sees all groups
//   split       one plain convolution per group, on its range of the channels
//   packed      x is copied first, its few channels filled up to 8 with zeros
//   padded      x is copied first, with its padding, because cuDNN prefers it even on both sides
//   folded      x is copied first, with its padding, each square of stride x stride places as one:
//               a convolution of stride 1 with more channels and a smaller kernel
//   fused       bias and ReLU, or the mask of the data gradient, are part of cuDNN's graph
//   rounded     the gradient of bf16 weights, summed in fp32, is written as bf16: of cuDNN's
//               engines, only one for Hopper can do otherwise
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/cuda/kernels/product_kernels.h"
#include "layers/cuda/products/cudnn_graph.h"
#include "layers/cuda/products/library.h"

namespace convoy::cuda {

struct ConvolutionVariant {
  std::string name;            // "split fused"
  ConvolutionProblem problem;  // of one call
  int64_t calls = 1;           // one per group
  bool rounds = false;         // the fp32 gradient of the weights, to bf16
  bool packs_x = false;        // it is copied into a tensor of the sizes of problem.x first
  Packing packing;             // how x lies in it
  bool packs_weight = false;   // forward: they get the channels of that copy, folded as x is
  bool unpacks = false;        // the weights' gradient is written elsewhere first
  bool finishes = false;       // an own kernel adds bias and ReLU, or masks dx
};

// Returns the most promising first. Looks only at the operands' types, sizes and addresses.
std::vector<ConvolutionVariant> ConvolutionVariants(ProductPass pass, const Convolution& conv,
                                                    const ProductOperands& operands);

// Returns the operands of the call for group `group`. x, weights and their gradient are given: they
// lie in the caller's memory or in copies.
ConvolutionMemory MemoryOfCall(const ConvolutionProblem& problem, const ProductOperands& operands,
                               int64_t group, void* x, void* weight, void* weight_gradient);

}  // namespace convoy::cuda
