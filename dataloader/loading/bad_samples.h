// dataloader/loading/bad_samples.h - samples that cannot be read or decoded: told from faults of
// the program, noted, put in order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "dataloader/bad_samples.h"
#include "dataloader/dataset.h"

namespace convoy {

// Whether an error while a sample is read and decoded is the sample's own.
inline bool IsOfSample(const Error& error) {
  return error.exit_code() == ExitCode::kData || error.exit_code() == ExitCode::kDisk;
}

// Its position is its identity in the data set.
BadSample BadSampleOf(const Dataset& dataset, int64_t sample, const std::string& reason);

// Those of one position keep their order.
void SortByPosition(std::vector<BadSample>& samples);

}  // namespace convoy
