// dataloader/archives/members.h - a table of image files: their folders, their names, and where
// their bytes lie.
//
// It takes about 45 bytes an image: 60 MB for ImageNet's 1,281,167. It is sorted by "folder/name"
// in byte order, so that the members of a class, and the classes of a split, are neighbours.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace convoy {

// The most bytes of an image file. A larger file is no photograph, and every thread would need
// memory for it.
inline constexpr int64_t kLargestMember = 1 << 30;

struct MemberTable {
  std::vector<std::string> folders;    // in the order of folder + "/"; "" for the top
  std::vector<uint32_t> folder_begin;  // [folders + 1] first member of each folder
  // For each member:
  std::vector<int64_t> offset;       // byte of the content in its archive; 0 for files of their own
  std::vector<uint32_t> bytes;       // 0 for files of their own
  std::vector<uint16_t> archive;     // which archive; 0 for files of their own
  std::vector<uint32_t> name_begin;  // [members + 1] into names
  std::string names;

  int64_t size() const { return static_cast<int64_t>(offset.size()); }
  std::string_view Name(int64_t member) const {
    const auto i = static_cast<size_t>(member);
    return std::string_view(names).substr(name_begin[i], name_begin[i + 1] - name_begin[i]);
  }
  // Returns the folder that `member` lies in.
  size_t FolderIndex(int64_t member) const;
  // Returns whether the sizes of the arrays agree and every reference lies inside of them.
  bool IsConsistent() const;
};

// Makes a MemberTable of members in any order.
class MemberTableBuilder {
 public:
  // Returns the number of a folder, which may stay empty. The same path gives the same number.
  uint32_t Folder(const std::string& path);
  // Adds a member. Throws (kData) if it is too large to be an image, or if there are too many
  // members.
  void Add(uint32_t folder, std::string_view name, int64_t archive, int64_t offset, int64_t bytes);
  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  // Gives every folder another path. The new paths must be distinct.
  void RenameFolders(const std::function<std::string(const std::string&)>& rename);
  // Sorts the members and returns the table. `archive_names` are for messages. Throws (kData) if
  // one archive holds a name twice.
  MemberTable Finish(const std::vector<std::string>& archive_names);

 private:
  struct Row {
    int64_t offset;
    uint32_t bytes, folder, name_begin;
    uint16_t name_bytes, archive;
  };
  std::string_view NameOf(const Row& row) const {
    return std::string_view(names_).substr(row.name_begin, row.name_bytes);
  }

  std::vector<std::string> folders_;
  std::unordered_map<std::string, uint32_t> folder_numbers_;
  std::vector<Row> rows_;
  std::string names_;
};

}  // namespace convoy
