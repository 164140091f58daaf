// dataloader/loading/bad_samples.h - samples that cannot be read or decoded: tells them from faults
// of the program, notes them, and puts them in order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "dataloader/bad_samples.h"
#include "dataloader/dataset.h"

namespace convoy {

// Returns whether an error that comes up while a sample is read and decoded is the sample's own.
inline bool IsOfSample(const Error& error) {
  return error.exit_code() == ExitCode::kData || error.exit_code() == ExitCode::kDisk;
}

// Makes a BadSample. Its position is its identity in the data set.
BadSample BadSampleOf(const Dataset& dataset, int64_t sample, const std::string& reason);

// Sorts by position. Samples of one position keep their order.
void SortByPosition(std::vector<BadSample>& samples);

}  // namespace convoy
