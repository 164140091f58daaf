// dataloader/split.h - a data set cut in two: for training, and held out for validation.
#pragma once

#include <memory>

#include "dataloader/dataset.h"

namespace convoy {

struct DatasetSplit {
  std::shared_ptr<const Dataset> training, held_out;
};

// Holds out about `share` (above 0, below 1) of the samples. Which ones is a function of each one's
// "class/file" name, without the extension: it depends on no other sample, on no order and no form
// of the archive, so images that are added later leave the others where they were. Both parts have
// all classes, and their samples in the order of `dataset`. Throws (kUsage) if one would be empty.
DatasetSplit SplitByName(const std::shared_ptr<const Dataset>& dataset, double share);

}  // namespace convoy
