// trainer/ranks/step_verdict.h - what all ranks must know of a step, in one small all-reduce.
#pragma once

#include <cstdint>
#include <optional>

#include "comm/world.h"
#include "core/error.h"
#include "layers/network.h"

namespace convoy {

// What one rank brings.
struct StepReport {
  LossSums loss;               // of the step that was done last; zero on ranks without the loss
  bool non_finite = false;     // a gradient or weight of that step is NaN or infinite
  bool stop = false;           // a signal asks for the end
  bool checkpoint = false;     // a signal asks for a checkpoint
  int64_t bad_samples = 0;     // in this rank's part of the next batch
  std::optional<Error> fault;  // this rank cannot go on
};

// What all ranks agree on.
struct StepVerdict {
  LossSums loss;  // summed over the ranks
  bool non_finite = false;
  bool stop = false;
  bool checkpoint = false;
  int64_t bad_samples = 0;  // in the whole next batch
};

// Collective over the world. If a rank brought a fault, all throw it as an AgreedError.
StepVerdict Agree(World& world, const StepReport& report);

}  // namespace convoy
