// layers/cuda/products/product_pass.h - the three products of a layer with weights.
#pragma once

namespace convoy::cuda {

enum class ProductPass { kForward, kBackwardData, kBackwardWeights };

inline const char* NameOf(ProductPass pass) {
  switch (pass) {
    case ProductPass::kForward:
      return "forward";
    case ProductPass::kBackwardData:
      return "backward data";
    case ProductPass::kBackwardWeights:
      return "backward weights";
  }
  return "";
}

}  // namespace convoy::cuda
