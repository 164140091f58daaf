// layers/cpu/update.h - the optimiser's pass over the flat arenas.
#pragma once

#include "layers/update_rules.h"

namespace convoy::cpu {

// One pass: reads w, v and g, writes w, v and where there is one the bf16 copy; 20 or 22 bytes per
// parameter.
void UpdateParameters(const UpdateRequest& request, int threads);

// compute = parameters, rounded to bf16.
void RoundToBFloat16(const Tensor& parameters, const Tensor& compute, int threads);

}  // namespace convoy::cpu
