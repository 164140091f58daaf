// trainer/ranks/same_copies.h - whether hosts with data sets of their own have the same one.
#pragma once

#include <string>

#include "comm/world.h"
#include "dataloader/dataset.h"

namespace convoy {

// Throws (kData) on every rank if the copies of the ranks with `compares` differ from rank 0's,
// which compares. `location` is for the message. Collective.
void RequireSameCopies(const Dataset& dataset, const std::string& location, bool compares,
                       World& world);

}  // namespace convoy
