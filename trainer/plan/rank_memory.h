// trainer/plan/rank_memory.h - how much memory a rank needs, by what it is for: all of it
// follows from the plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"
#include "trainer/plan/plan.h"

namespace convoy {

struct MemoryOptions {
  int64_t rows = 1;                      // of a micro-batch, of every shard
  int micro_batches = 1;                 // of a step
  DType dtype = DType::kFloat32;         // of activations: fp32 or bf16
  DType reduce_dtype = DType::kFloat32;  // as which gradients travel
  int optimizer_states = 1;              // arrays as large as the parameters
};

// Memory of one purpose.
struct MemoryUse {
  std::string name;  // "gradients"
  int64_t bytes = 0;
};

// Returns what a training rank on the CPU needs for its steps, besides what the process takes
// before it has a network: `convoy bench step` measures that as `memory of the steps`, and has been
// within 5 %. Left out: the loader, and a model for evaluation.
std::vector<MemoryUse> MemoryOf(const RankPlan& plan, const std::vector<BucketRange>& buckets,
                                const MemoryOptions& options);

}  // namespace convoy
