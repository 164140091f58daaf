// dataloader/sources/sources.h - the forms of a data set, each as a function that opens it.
// OpenDataset (open.cc) chooses.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataloader/archives/bytes.h"
#include "dataloader/archives/members.h"
#include "dataloader/dataset.h"
#include "dataloader/sources/layout.h"

namespace convoy {

// Image files in archives, or in folders if `archives` is empty and `root` is set.
struct MemberSource {
  std::string root;
  std::vector<std::unique_ptr<FileBytes>> archives;
  MemberTable members;
  ClassLayout layout;
  std::string description;  // "tar of tars /data/train.tar"
  LeftOutFiles left_out;
  // The folder below `root` that all files lie in, if the folders of `members` are only classes.
  std::optional<std::string> files_in;
};
std::unique_ptr<Dataset> MakeMemberDataset(MemberSource source);
// Makes a data set of images without labels.
std::unique_ptr<Dataset> MakeUnlabelledDataset(MemberSource source);

// Open folders of IDX and CIFAR binary files. `files` are NamesOfOtherFiles() (folder.h). Return
// nothing if the folder holds no such files. Throw (kData) for malformed files, or for a split that
// is not there.
std::unique_ptr<Dataset> OpenIdx(const std::string& folder, const std::vector<std::string>& files,
                                 const std::string& split);
std::unique_ptr<Dataset> OpenCifar(const std::string& folder, const std::vector<std::string>& files,
                                   const std::string& split);

// Opens "synthetic:N" or "synthetic:NxCLASSES". Throws (kUsage).
std::unique_ptr<Dataset> OpenSynthetic(const std::string& location);

}  // namespace convoy
