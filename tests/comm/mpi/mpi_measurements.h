// tests/comm/mpi/mpi_measurements.h - how long reductions take: `mpi_checks --measure`.
#pragma once

#include "comm/world.h"

namespace convoy {

// Prints the times of all-reduces of AlexNet's gradients, by themselves and beside computing, of a
// sum of one number, and what waiting costs. Checks the sums. Collective over the world.
void MeasureReductions(World& world);

}  // namespace convoy
