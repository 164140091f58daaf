// dataloader/archives/companion.h - where what was worked out about a data set is kept.
#pragma once

#include <cstdint>
#include <string>

#include "dataloader/dataset.h"

namespace convoy {

// A file beside the index of `dataset`, opened from `location`, whose name ends with `ending`. The
// name holds a hash of some samples' names and places, so that another data set at the same path
// has another file. Empty when there is no such place.
std::string CompanionPath(const std::string& location, const std::string& index_folder,
                          const Dataset& dataset, const std::string& ending);

// A hash of the sizes and times of all archives of `dataset`, or of up to 1,024 of its images if
// they are files of their own, evenly spaced over the set. It differs if images were replaced by
// others of the same names. 0 for noise.
uint64_t StampOfImages(const Dataset& dataset);

}  // namespace convoy
