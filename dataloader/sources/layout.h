// dataloader/sources/layout.h - finds splits and classes in the paths of folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "dataloader/archives/members.h"
#include "dataloader/dataset.h"
#include "dataloader/left_out.h"

namespace convoy {

// The folders [first, last) of a table that make up one split.
struct ClassLayout {
  size_t first = 0, last = 0;
  std::vector<std::string> classes;  // in label order: byte order of their names
  std::vector<int32_t> labels;       // [last - first]; -1 for a folder that is none of the classes
};

// The files that were left out, so that a message about a class without images can name them.
struct LeftOutFiles {
  LeftOut all;
  // The same of each folder that holds files and no image, if that is known.
  std::map<std::string, LeftOut> of_folder;
};

// Returns whether a folder's name says that it holds the images of the class (or split) above it
// and is itself no class: "images" in "n01443537/images/x.JPEG".
bool IsImageFolderName(std::string_view name);

// Accepts class folders, class folders below one or several splits, and both below leading folders
// that all paths share; images may lie one folder deeper (IsImageFolderName). `split` is empty
// if none was asked for; `where` names the source in messages. Throws (kData) with what was
// found and what is expected; a split that a hint names is one that can be opened.
ClassLayout FindClasses(const MemberTable& table, const std::string& split,
                        const std::string& where, EmptyClasses empty_classes,
                        const LeftOutFiles& left_out);

}  // namespace convoy
