// trainer/run/validation_classes.h - labels of a validation set as those of the training set.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dataloader/dataset.h"

namespace convoy {

// `dataset` with the classes `training`, which the network knows, and with labels that are numbers
// of these. Names tell which class is which, so a set without images of some classes will do.
// Throws (kData) if a class of `dataset` is none of `training`. `location` names the set.
std::shared_ptr<const Dataset> WithClassesOfTraining(std::shared_ptr<const Dataset> dataset,
                                                     const std::string& location,
                                                     const std::vector<std::string>& training);

}  // namespace convoy
