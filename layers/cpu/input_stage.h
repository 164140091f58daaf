// layers/cpu/input_stage.h - uint8 crops become the network's input.
#pragma once

#include <memory>

#include "layers/backend.h"

namespace convoy::cpu {

std::unique_ptr<InputStage> MakeInputStage(const InputOptions& options, int threads);

}  // namespace convoy::cpu
