// dataloader/sources/arrange.h - from image files to samples with labels.
#pragma once

#include <memory>
#include <string>

#include "dataloader/dataset.h"
#include "dataloader/sources/place.h"
#include "dataloader/sources/sources.h"

namespace convoy {

// Takes classes from folders, from a devkit, or from a list of labels; unlabelled test images have
// none. `list` is the list that the user named, or empty. Throws (kData) with what was found and
// what is expected.
std::unique_ptr<Dataset> Arrange(MemberSource source, const Place& place, const std::string& list,
                                 const DatasetOptions& options, EmptyClasses empty_classes,
                                 Log& log);

}  // namespace convoy
