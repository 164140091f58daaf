#include "dataloader/sources/layout.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/shard_splits.h"

namespace convoy {
namespace {

constexpr const char* kExpected =
    "expected images in class folders, or in class folders below folders of splits";

// A folder that holds images, or nothing at all: a class, if all is well.
struct Leaf {
  size_t folder = 0;               // in the table
  std::vector<std::string> parts;  // of its path, without those that are no part of the layout
};
using Leaves = std::vector<Leaf>;

// Returns the number of members of one folder.
int64_t CountOf(const MemberTable& table, size_t folder) {
  return table.folder_begin[folder + 1] - table.folder_begin[folder];
}

// Returns the folders of classes. The other folders lie above classes.
Leaves LeavesOf(const MemberTable& table) {
  Leaves leaves;
  for (size_t i = 0; i < table.folders.size(); ++i) {
    // Sorted with the slash, a folder is followed by those below it.
    const std::string& folder = table.folders[i];
    const bool is_parent = i + 1 < table.folders.size() &&
                           (folder.empty() || table.folders[i + 1].starts_with(folder + "/"));
    if (CountOf(table, i) == 0 && is_parent) continue;
    leaves.push_back({i, folder.empty() ? std::vector<std::string>{} : Split(folder, '/')});
  }
  return leaves;
}

// "n01443537/images" -> "n01443537", if all images lie so. Returns whether they do.
bool DropImageFolders(const MemberTable& table, Leaves& leaves) {
  const auto lies_so = [](const Leaf& leaf) {
    return leaf.parts.size() >= 2 && IsImageFolderName(leaf.parts.back());
  };
  for (const Leaf& leaf : leaves) {
    if (CountOf(table, leaf.folder) > 0 && !lies_so(leaf)) return false;
  }
  for (Leaf& leaf : leaves) {
    if (lies_so(leaf)) leaf.parts.pop_back();
  }
  return true;
}

// Returns the number of leading parts that all leaves share; at least one part of each is left.
size_t SharedParts(const Leaves& leaves) {
  size_t shared = 0;
  while (true) {
    for (const Leaf& leaf : leaves) {
      if (leaf.parts.size() < shared + 2 || leaf.parts[shared] != leaves.front().parts[shared]) {
        return shared;
      }
    }
    ++shared;
  }
}

// Returns whether all leaves are as deep as class folders without splits: one part after `shared`.
bool AreClasses(const Leaves& leaves, size_t shared) {
  return std::all_of(leaves.begin(), leaves.end(),
                     [=](const Leaf& leaf) { return leaf.parts.size() == shared + 1; });
}

// Groups the leaves by the part at `depth`; "" holds those that are not so deep.
std::map<std::string, Leaves> GroupsAt(const Leaves& leaves, size_t depth) {
  std::map<std::string, Leaves> groups;
  for (const Leaf& leaf : leaves) {
    groups[leaf.parts.size() > depth ? leaf.parts[depth] : std::string()].push_back(leaf);
  }
  return groups;
}

std::string Listing(const std::map<std::string, Leaves>& groups) {
  std::string text;
  size_t listed = 0;
  for (const auto& [name, leaves] : groups) {
    if (++listed > 8) return text + fmt::format(", ... ({} in all)", groups.size());
    text += (text.empty() ? "" : ", ") + Printable(name);
  }
  return text;
}

class LayoutFinder {
 public:
  LayoutFinder(const MemberTable& table, const std::string& where, EmptyClasses empty_classes,
               const LeftOutFiles& left_out)
      : table_(table), where_(where), empty_classes_(empty_classes), left_out_(left_out) {}

  ClassLayout Find(const std::string& split) const;

 private:
  [[noreturn]] void Fail(const std::string& problem, const std::string& hint) const {
    throw Error(ExitCode::kData, fmt::format("{}{}", where_, problem), hint);
  }
  [[noreturn]] void FailWithoutImages(const Leaves& leaves) const;
  [[noreturn]] void FailUneven(const Leaves& leaves) const;
  [[noreturn]] void FailWithoutSplit(const std::map<std::string, Leaves>& splits) const;
  bool CanBeOpened(const Leaves& leaves, size_t shared) const;
  ClassLayout LayoutOf(Leaves leaves) const;
  std::string Path(const Leaf& leaf) const { return Printable(table_.folders[leaf.folder]); }

  const MemberTable& table_;
  const std::string& where_;
  EmptyClasses empty_classes_;
  const LeftOutFiles& left_out_;
};

void LayoutFinder::FailWithoutImages(const Leaves& leaves) const {
  const std::string folders = leaves.empty() ? std::string("no folder")
                                             : fmt::format("{} empty folders, the first {}",
                                                           leaves.size(), Path(leaves.front()));
  std::string left_out;
  if (!left_out_.all.empty()) {
    left_out = fmt::format(" (JPEG or PNG), but {}, such as {}", left_out_.all.Listing(),
                           Printable(left_out_.all.kinds().begin()->second.first));
  }
  Fail(fmt::format(": found {} and no image{}", folders, left_out), kExpected);
}

void LayoutFinder::FailUneven(const Leaves& leaves) const {
  const auto other = std::find_if(leaves.begin(), leaves.end(), [&](const Leaf& leaf) {
    return leaf.parts.size() != leaves.front().parts.size();
  });
  const Leaf& second = other == leaves.end() ? leaves.back() : *other;
  Fail(fmt::format(": found images in \"{}\" and in \"{}\"", Path(leaves.front()), Path(second)),
       kExpected);
}

// Returns whether all of a split's folders are class folders, and those that must have images have
// some.
bool LayoutFinder::CanBeOpened(const Leaves& leaves, size_t shared) const {
  const auto has_images = [this](const Leaf& leaf) { return CountOf(table_, leaf.folder) > 0; };
  return AreClasses(leaves, shared) &&
         (empty_classes_ == EmptyClasses::kRefused
              ? std::all_of(leaves.begin(), leaves.end(), has_images)
              : std::any_of(leaves.begin(), leaves.end(), has_images));
}

void LayoutFinder::FailWithoutSplit(const std::map<std::string, Leaves>& splits) const {
  std::string good;
  for (const auto& [name, leaves] : splits) {
    if (!CanBeOpened(leaves, SharedParts(leaves))) continue;
    if (good.empty() || SplitOfWord(name) == "train") good = name;
  }
  if (good.empty()) Fail(fmt::format(" has several splits: {}", Listing(splits)), kExpected);
  Fail(fmt::format(" has several splits: {}", Listing(splits)),
       fmt::format("name one: {}:{}", where_, good));
}

ClassLayout LayoutFinder::Find(const std::string& split) const {
  Leaves leaves = LeavesOf(table_);
  if (table_.size() == 0) FailWithoutImages(leaves);
  const bool dropped = DropImageFolders(table_, leaves);
  size_t shared = SharedParts(leaves);
  const std::map<std::string, Leaves> groups = GroupsAt(leaves, shared);
  const bool all_are_splits = std::all_of(groups.begin(), groups.end(), [](const auto& group) {
    return !SplitOfWord(group.first).empty();
  });
  if (AreClasses(leaves, shared)) {
    // All images lie in folders such as "train/images" and "val/images".
    if (dropped && all_are_splits) {
      Fail(fmt::format(": found images in \"{}\", without class folders", Path(leaves.front())),
           kExpected);
    }
    const bool is_below = shared > 0 && leaves.front().parts[shared - 1] == split;
    if (!split.empty() && !is_below) {
      const std::string found =
          shared > 0 ? Printable(leaves.front().parts[shared - 1]) : std::string("no splits");
      Fail(fmt::format(" has no split {}: found {}", Printable(split), found),
           shared > 0 ? "name that one, or leave the split out" : "leave the split out");
    }
    return LayoutOf(leaves);
  }

  // One split may be right while another is not.
  const bool are_splits =
      all_are_splits || std::all_of(leaves.begin(), leaves.end(), [&](const Leaf& leaf) {
        return leaf.parts.size() == shared + 2;
      });
  if (split.empty()) {
    if (!are_splits) FailUneven(leaves);
    FailWithoutSplit(groups);
  }
  const auto chosen = groups.find(split);
  if (chosen == groups.end()) {
    if (!are_splits) FailUneven(leaves);
    Fail(fmt::format(" has no split {}: found {}", Printable(split), Listing(groups)),
         "name one of them");
  }
  leaves = chosen->second;
  if (leaves.size() == 1 && leaves.front().parts.size() == shared + 1) {
    Fail(fmt::format(": found images in \"{}\", without class folders", Path(leaves.front())),
         "expected class folders below the split; unpacked, a list of labels beside the images "
         "will do");
  }
  shared = SharedParts(leaves);
  if (!AreClasses(leaves, shared)) FailUneven(leaves);
  return LayoutOf(leaves);
}

ClassLayout LayoutFinder::LayoutOf(Leaves leaves) const {
  if (empty_classes_ == EmptyClasses::kLeftOut) {
    Leaves others = leaves;
    std::erase_if(others, [this](const Leaf& leaf) {
      return CountOf(table_, leaf.folder) == 0 &&
             !left_out_.of_folder.contains(table_.folders[leaf.folder]);
    });
    if (others.empty()) FailWithoutImages(leaves);
    leaves = std::move(others);
  }
  ClassLayout layout;
  for (const Leaf& leaf : leaves) {
    const std::string& folder = table_.folders[leaf.folder];
    if (CountOf(table_, leaf.folder) == 0 && empty_classes_ != EmptyClasses::kKept) {
      const auto files = left_out_.of_folder.find(folder);
      std::string holds = "no image";
      if (files != left_out_.of_folder.end()) {
        holds = fmt::format("{} file{}, JPEG or PNG expected", files->second.Listing(),
                            files->second.count() == 1 ? "" : "s");
      } else if (!left_out_.all.empty()) {
        holds += fmt::format("; left out in all: {}", left_out_.all.Listing());
      }
      Fail(fmt::format(": the class folder {} holds {}", Path(leaf), holds),
           "images are named .jpeg, .jpg or .png; remove the folder or fill it");
    }
    layout.classes.push_back(leaf.parts.back());
  }
  layout.first = leaves.front().folder;
  layout.last = leaves.back().folder + 1;
  std::sort(layout.classes.begin(), layout.classes.end());
  layout.labels.assign(layout.last - layout.first, -1);
  for (const Leaf& leaf : leaves) {
    const auto place =
        std::lower_bound(layout.classes.begin(), layout.classes.end(), leaf.parts.back());
    layout.labels[leaf.folder - layout.first] =
        static_cast<int32_t>(place - layout.classes.begin());
  }
  return layout;
}

}  // namespace

bool IsImageFolderName(std::string_view name) {
  const std::string lower = LowerCase(name);
  constexpr std::array<std::string_view, 5> kNames = {"images", "image", "imgs", "img",
                                                      "jpegimages"};
  return std::find(kNames.begin(), kNames.end(), lower) != kNames.end();
}

ClassLayout FindClasses(const MemberTable& table, const std::string& split,
                        const std::string& where, EmptyClasses empty_classes,
                        const LeftOutFiles& left_out) {
  return LayoutFinder(table, where, empty_classes, left_out).Find(split);
}

}  // namespace convoy
