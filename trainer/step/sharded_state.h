// trainer/step/sharded_state.h - what the ranks have in parts if the update is sharded, made whole
// for files and comparisons.
//
// All functions but TakeState are collective over the ranks that share a bucket, and may be called
// by all ranks of the world. They do nothing slow if the update is not sharded.
#pragma once

#include <cstddef>

#include "comm/grid.h"
#include "trainer/plan/plan.h"
#include "trainer/step/parameter_store.h"

namespace convoy {

// Makes the master weights whole on every rank. A step gathers only what layers read.
void GatherMasterWeights(const RankPlan& plan, ParameterStore& store, Stream& stream,
                         ProcessGrid& grid);

// Returns state `index` of all of this rank's parameters, in their layout; of a sharded update it
// lies in the memory of the gradients, until they are written again.
Tensor WholeState(const RankPlan& plan, ParameterStore& store, size_t index, Stream& stream,
                  ProcessGrid& grid);

// Returns where state `index` may be written whole, in the parameters' layout, for TakeState.
Tensor RoomForState(const RankPlan& plan, ParameterStore& store, size_t index);
// Takes this rank's part of what was written there.
void TakeState(const RankPlan& plan, ParameterStore& store, size_t index, Stream& stream);

}  // namespace convoy
