#include "dataloader/sources/layout.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/names.h"

namespace convoy {
namespace {

using Parts = std::vector<std::string>;

constexpr const char* kExpected =
    "expected images in class folders, or in class folders below folders of splits";

// Members of one folder.
int64_t CountOf(const MemberTable& table, size_t folder) {
  return table.folder_begin[folder + 1] - table.folder_begin[folder];
}

// Folders that hold images, or hold nothing at all. The others are above classes.
std::vector<size_t> Leaves(const MemberTable& table) {
  std::vector<size_t> leaves;
  for (size_t i = 0; i < table.folders.size(); ++i) {
    // Sorted with the slash, a folder is followed by those below it.
    const bool is_parent =
        i + 1 < table.folders.size() &&
        (table.folders[i].empty() || table.folders[i + 1].starts_with(table.folders[i] + "/"));
    if (CountOf(table, i) > 0 || !is_parent) leaves.push_back(i);
  }
  return leaves;
}

Parts PartsOf(const std::string& folder) { return folder.empty() ? Parts{} : Split(folder, '/'); }

// Leading parts that all folders share, at least one part of each left over.
size_t SharedParts(const std::vector<Parts>& folders) {
  size_t shared = 0;
  while (true) {
    for (const Parts& parts : folders) {
      if (parts.size() < shared + 2 || parts[shared] != folders.front()[shared]) return shared;
    }
    ++shared;
  }
}

std::string Listing(const std::set<std::string>& names) {
  std::string text;
  size_t listed = 0;
  for (const std::string& name : names) {
    if (++listed > 8) return text + fmt::format(", ... ({} in all)", names.size());
    text += (text.empty() ? "" : ", ") + Printable(name);
  }
  return text;
}

}  // namespace

ClassLayout FindClasses(const MemberTable& table, const std::string& split,
                        const std::string& where, EmptyClasses empty_classes) {
  const std::vector<size_t> leaves = Leaves(table);
  if (table.size() == 0) {
    const std::string folders = leaves.empty()
                                    ? std::string("no folder")
                                    : fmt::format("{} empty folders, the first {}", leaves.size(),
                                                  Printable(table.folders[leaves.front()]));
    throw Error(ExitCode::kData, fmt::format("{}: found {} and no image", where, folders),
                kExpected);
  }
  std::vector<Parts> folders;
  folders.reserve(leaves.size());
  for (const size_t leaf : leaves) folders.push_back(PartsOf(table.folders[leaf]));
  const size_t shared = SharedParts(folders);
  const size_t depth = folders.front().size() - shared;
  for (size_t i = 0; i < folders.size(); ++i) {
    if (folders[i].size() - shared == depth && depth >= 1 && depth <= 2) continue;
    const size_t other = i == 0 ? leaves.size() - 1 : 0;
    throw Error(
        ExitCode::kData,
        fmt::format("{}: found images in \"{}\" and in \"{}\"", where,
                    Printable(table.folders[leaves[other]]), Printable(table.folders[leaves[i]])),
        kExpected);
  }

  std::set<std::string> splits;
  if (depth == 2) {
    for (const Parts& parts : folders) splits.insert(parts[shared]);
    if (split.empty()) {
      throw Error(ExitCode::kData, fmt::format("{} has several splits: {}", where, Listing(splits)),
                  fmt::format("name one: {}:{}", where, *splits.begin()));
    }
  } else if (shared > 0) {
    splits.insert(folders.front()[shared - 1]);
  }
  if (!split.empty() && !splits.contains(split)) {
    throw Error(ExitCode::kData,
                fmt::format("{} has no split {}: found {}", where, Printable(split),
                            splits.empty() ? "no splits" : Listing(splits)),
                splits.empty() ? "leave the split out" : "name one of them");
  }

  ClassLayout layout;
  std::map<size_t, std::string> class_of_folder;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (depth == 2 && folders[i][shared] != split) continue;
    if (CountOf(table, leaves[i]) == 0 && empty_classes == EmptyClasses::kRefused) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: the class folder {} holds no image", where,
                              Printable(table.folders[leaves[i]])),
                  "images are named .jpeg, .jpg or .png; remove the folder or fill it");
    }
    class_of_folder[leaves[i]] = folders[i].back();
    layout.classes.push_back(folders[i].back());
  }
  std::sort(layout.classes.begin(), layout.classes.end());
  layout.first = class_of_folder.begin()->first;
  layout.last = class_of_folder.rbegin()->first + 1;
  layout.labels.assign(layout.last - layout.first, -1);
  for (const auto& [folder, name] : class_of_folder) {
    const auto place = std::lower_bound(layout.classes.begin(), layout.classes.end(), name);
    layout.labels[folder - layout.first] = static_cast<int32_t>(place - layout.classes.begin());
  }
  return layout;
}

}  // namespace convoy
