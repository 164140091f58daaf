// layers/update_rules.h - how an optimiser changes weights: the rules, and one call of their
// kernel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor/tensor.h"

namespace convoy {

enum class UpdateRule {
  kPaper,  // v = momentum * v - lr * (decay * w + g);  w = w + v        (paper, section 5)
  kTorch,  // v = momentum * v + (g + decay * w);       w = w - lr * v
};

// Elements [begin, begin + count) of the arenas and their settings. lr = 0 means frozen: neither w
// nor v changes.
struct UpdateRange {
  int64_t begin = 0, count = 0;
  double lr = 0, momentum = 0, weight_decay = 0;
};

struct UpdateRequest {
  UpdateRule rule = UpdateRule::kPaper;
  Tensor parameters;           // read and written
  Tensor compute;              // bf16 copy to write too; or `parameters`
  Tensor gradients;            // read
  std::vector<Tensor> states;  // read and written: momentum
  std::span<const UpdateRange> ranges;
  // int32 [1]. Set to 1 when a gradient or a new weight is not finite; when it is 1 already,
  // nothing is updated.
  Tensor non_finite;
};

}  // namespace convoy
