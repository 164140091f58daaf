// dataloader/loading/loader_options.h - options that contradict each other or the data set.
#pragma once

#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy {

// Throws (kUsage; kData for an empty data set).
void CheckOptions(const Dataset& dataset, const LoaderOptions& options);

}  // namespace convoy
