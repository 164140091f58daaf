// dataloader/loading/loader_options.h - finds options that contradict each other or the data set.
#pragma once

#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy {

// Throws (kUsage; kData for an empty data set) if the options cannot be used.
void CheckOptions(const Dataset& dataset, const LoaderOptions& options);

}  // namespace convoy
