// tests/trainer/trace_check.h - the two-tower network against an independent run of it, computed
// elsewhere in double precision: ../shared/reference/alexnet2012_trace.json states weights, input
// and labels by formula, and gives losses, gradients' and parameters' norms and sums.
#pragma once

#include "tests/trainer/harness.h"

namespace convoy {

// Whether the file is there.
bool HasTrace();

struct TraceTolerance {
  double loss, gradient, momentum;
  bool sums;  // whether sums are compared too: fp32 cancellation leaves nothing of them
};

// Single precision: an independent run differs from the file by 6e-6 in the losses, 3e-3 in the
// gradients' norms and 2e-3 in the momentum's; these are two to five times that.
inline constexpr TraceTolerance kSinglePrecisionTrace{3e-5, 6e-3, 5e-3, false};
constexpr int kTraceSteps = 10;

// The first `steps` steps of the file, on one rank of `world`. Collective.
void ReproduceTrace(World& world, const GridShape& grid,
                    const std::function<std::unique_ptr<Backend>()>& make_backend, DType dtype,
                    int steps, const TraceTolerance& tolerance);

}  // namespace convoy
