// trainer/checkpoint/info.h - CheckpointInfo as the string map of a safetensors header.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace convoy {

// Without the preprocessing, whose numbers are tensors of the file.
std::map<std::string, std::string> MetadataOf(const CheckpointInfo& info);
// Throws (kData) if a name cannot be written: JSON is UTF-8.
void RequireUtf8(const std::vector<std::string>& names);
// Throws (kCheckpoint) naming `path`.
CheckpointInfo InfoFrom(const std::map<std::string, std::string>& metadata,
                        const std::string& path);

}  // namespace convoy
