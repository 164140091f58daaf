// dataloader/sources/label_list.h - the classes of images that lie in one folder, from a list: a
// CSV with a line per image, as Kaggle's, or Tiny ImageNet's val_annotations.txt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataloader/archives/members.h"

namespace convoy {

struct LabelList {
  struct Line {
    int64_t line = 0;  // in the file, the first being 1
    std::string image, label;
  };
  std::string path;
  std::vector<Line> lines;
};

// Returns whether a name may be that of a list: .csv, .tsv, or val_annotations.txt.
bool IsLabelListName(const std::string& path);

// Reads `path` as a list of the images of `members`, which lie in one folder. The column of names
// is the one that holds the images' names, with or without their extension. The column of labels is
// the only other one, or the one with a usual header (label, class, category, breed, ...). Returns
// nothing if there are no such columns. Throws (kData) for a file that cannot be read.
std::optional<LabelList> ReadLabelList(const std::string& path, const MemberTable& members);

// Returns the list for the images of `folder` (`members`), if the user named none: the only list in
// `folder`, or else labels.csv, train.csv, FOLDER.csv or val_annotations.txt beside it. Throws
// (kData) if there are several.
std::optional<LabelList> FindLabelList(const std::string& folder, const MemberTable& members);

// Moves the images into folders of their classes. Labels that are all whole numbers get the same
// number of digits, so that the byte order of the classes is that of the numbers. Throws (kData)
// unless every image has one line and every line an image.
MemberTable ArrangeByLabels(const MemberTable& members, const LabelList& list,
                            const std::string& folder);

}  // namespace convoy
