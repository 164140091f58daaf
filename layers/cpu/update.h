// layers/cpu/update.h - the optimiser's pass over the flat arenas.
#pragma once

#include <memory>

#include "layers/updater.h"

namespace convoy::cpu {

// One pass per bucket: reads the weights, the states and the gradients, and writes the weights, the
// states and, if there is one, the bf16 copy. With one state that is 20 or 22 bytes per parameter.
std::unique_ptr<Updater> MakeUpdater(const UpdateArenas& arenas, const UpdateOptions& options,
                                     int threads);

// compute = parameters, rounded to bf16.
void RoundToBFloat16(const Tensor& parameters, const Tensor& compute, int threads);

}  // namespace convoy::cpu
