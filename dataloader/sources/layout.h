// dataloader/sources/layout.h - splits and classes, told from the paths of folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dataloader/archives/members.h"

namespace convoy {

// The folders [first, last) of a table that make up one split.
struct ClassLayout {
  size_t first = 0, last = 0;
  std::vector<std::string> classes;  // in label order: byte order of their names
  std::vector<int32_t> labels;       // [last - first]; -1 for a folder above the classes
};

// Whether a class without images is an error.
enum class EmptyClasses { kRefused, kAllowed };

// Accepts class folders, class folders below one or several splits, and both below leading folders
// that all paths share. `split` is empty where none was asked for; `where` names the source in
// messages. Throws (kData) with what was found and what is expected.
ClassLayout FindClasses(const MemberTable& table, const std::string& split,
                        const std::string& where, EmptyClasses empty_classes);

}  // namespace convoy
