// trainer/ranks/same_slices.h - whether ranks that hold the same slice of the network still do.
#pragma once

#include <cstdint>

#include "trainer/engine.h"

namespace convoy {

// Compares a hash of every parameter, every state of the optimiser and every buffer between the
// ranks that hold the same rows of it (ParameterSlice::copies): after the same updates they are the
// same to the last bit. If the update is sharded, only one rank has the state and the master of a
// weight; then what layers read is compared, and of small parameters also the state.
//
// Waits for the work on the engine's stream; steps that are under way must be finished before.
// Throws (kNumbers) on every rank if they differ, naming the tensor, `step`, and the odd ranks with
// their hosts: those outside the majority, or, if there is none, those that differ from the first
// rank. Collective over the world.
void RequireSameSlices(Engine& engine, int64_t step);

}  // namespace convoy
