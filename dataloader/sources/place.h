// dataloader/sources/place.h - what a user names as a data set: a path, and a part of it.
#pragma once

#include <string>

namespace convoy {

// A path, and the split of it that is wanted, both as the user gave them.
struct Place {
  std::string path, split;
  std::string where() const { return split.empty() ? path : path + ":" + split; }
};

// Reads "PATH" or "PATH:SPLIT"; a path that holds a colon itself comes first. Throws (kUsage) if it
// is empty, (kData) if there is no such path.
Place ParseLocation(const std::string& location);

// Returns the list of labels that was named in place of a split; empty if the split is not the name
// of a list. Throws (kData) if there is no such list.
std::string NamedList(const Place& place);

}  // namespace convoy
