// dataloader/archives/companion.h - where what was worked out about a data set is kept.
#pragma once

#include <string>

#include "dataloader/dataset.h"

namespace convoy {

// A file beside the index of `dataset`, opened from `location`, whose name ends with `ending`. It
// holds a hash of some samples' names and places, so that another data set at the same path has
// another file. Empty when there is no such place.
std::string CompanionPath(const std::string& location, const std::string& index_folder,
                          const Dataset& dataset, const std::string& ending);

}  // namespace convoy
