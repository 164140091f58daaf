// trainer/checkpoint/info.h - CheckpointInfo as the string map of a safetensors header.
#pragma once

#include <map>
#include <string>

#include "trainer/checkpoint/checkpoint.h"

namespace convoy {

// Without the preprocessing, whose numbers are tensors of the file.
std::map<std::string, std::string> MetadataOf(const CheckpointInfo& info);
// Throws (kCheckpoint) naming `path`.
CheckpointInfo InfoFrom(const std::map<std::string, std::string>& metadata,
                        const std::string& path);

}  // namespace convoy
