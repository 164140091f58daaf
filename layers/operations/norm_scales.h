// layers/operations/norm_scales.h - what norms over whole tensors do to an update, worked out on
// the host.
#pragma once

#include <span>
#include <vector>

#include "layers/updater.h"

namespace convoy {

// PyTorch's: keeps the quotient of clipping finite if the norm is 0.
inline constexpr double kClipEpsilon = 1e-6;

// Factors of one range at one step.
struct NormScale {
  double gradient = 1;  // clipping; the same for all ranges
  double rate = 1;      // LARS
};

// One per range. `table`: that of Updater::SumSquares with the rows of all ranks. Every sum goes
// from the first row to the last, so that all ranks get the same bits under every cut.
std::vector<NormScale> NormScalesOf(const UpdateOptions& options, const double* table,
                                    std::span<const ParameterRates> rates);

}  // namespace convoy
