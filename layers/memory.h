// layers/memory.h - how much memory a compiled segment takes: it follows from its list of layers.
#pragma once

#include <cstdint>

#include "layers/network.h"

namespace convoy {

// Bytes that are taken of the system.
struct SegmentMemory {
  int64_t activations = 0;  // the input, and what every operation writes
  int64_t gradients = 0;    // of activations: two at a time are in use
  int64_t maxima = 0;       // where max pooling found its maxima
  // Of convolutions, in the order that oneDNN prefers: for forward, for backward, and the
  // gradients. On a processor for which the arena's own order is as good, there is less.
  int64_t weights = 0;
};

// Returns what the CPU backend allocates for a segment besides the arenas. What oneDNN works in,
// and the few values of a layer or thread, are left out. The CUDA backend lays activations and
// their gradients out alike.
SegmentMemory MemoryOf(const SegmentSpec& segment, const CompileOptions& options);

}  // namespace convoy
