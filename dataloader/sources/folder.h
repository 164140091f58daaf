// dataloader/sources/folder.h - what lies in a folder: images, tars, and what is neither.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "dataloader/archives/members.h"
#include "dataloader/left_out.h"

namespace convoy {

// The images below a folder.
struct FolderContents {
  MemberTable members;
  LeftOut left_out;  // files that are no images, with names relative to the folder
  // The same of each folder that holds files and no image. "" is the folder itself.
  std::map<std::string, LeftOut> left_out_of;
  // Folders that Convoy wrote runs into. They are left out, because they depend on the images, and
  // not the other way round.
  std::vector<std::string> runs;
  // Images that are links to nothing. They are members, and are bad when they are read.
  LeftOut dangling;
};

// Reads at most four folders deep. Decides by the extensions of names and opens no file. Throws
// (kData) for a folder that cannot be read, and for a link to nothing that may be a folder.
FolderContents ReadFolders(const std::string& root);

// Returns the names of the files directly in a folder that are no images, in byte order. Throws
// (kData).
std::vector<std::string> NamesOfOtherFiles(const std::string& folder);

// What lies directly in a folder that may hold archives. Paths are in byte order.
struct FolderListing {
  // A file that is neither an image nor a tar nor a note, and what it is: "0002.tar", "empty".
  struct Stray {
    std::string path, what;
  };
  std::vector<std::string> tars, folders;
  std::string first_image;  // empty if there is none
  std::vector<Stray> strays;
  LeftOut notes;  // what usually lies beside archives: README, checksums, .json, .txt, ...
};

// Lists a folder. Opens the files that may be tars. Throws (kData).
FolderListing ListFolder(const std::string& path);

// Returns whether a tar begins at the start of a file. Throws (kData) if it cannot be opened.
bool IsTarFile(const std::string& path);

// Says what a file is by its first bytes: "a gzip file", "text". Throws (kData).
std::string DescribeFile(const std::string& path);

}  // namespace convoy
