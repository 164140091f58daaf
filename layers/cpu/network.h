// layers/cpu/network.h - a segment compiled for the CPU.
#pragma once

#include <memory>

#include "layers/network.h"

namespace convoy::cpu {

std::unique_ptr<Network> MakeNetwork(const SegmentSpec& segment, const CompileOptions& options,
                                     const NetworkArenas& arenas, int threads);

}  // namespace convoy::cpu
