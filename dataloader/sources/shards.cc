#include "dataloader/sources/shards.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/names.h"

namespace convoy {
namespace {

std::vector<std::string> ReadClasses(const std::string& path) {
  std::vector<std::string> names;
  std::set<std::string> distinct;
  for (const std::string& line : Split(ReadText(path, ExitCode::kData), '\n')) {
    const std::string name(Trim(line));
    if (name.empty()) continue;
    if (name.find('/') != std::string::npos || !distinct.insert(name).second) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: {}: distinct names without / expected", path, Printable(name)));
    }
    names.push_back(name);
  }
  return names;
}

// Returns the folders in another order, with their members.
MemberTable WithFoldersInOrder(const MemberTable& table, const std::vector<size_t>& order) {
  MemberTable result;
  result.folder_begin.push_back(0);
  for (const size_t folder : order) {
    result.folders.push_back(table.folders[folder]);
    for (uint32_t i = table.folder_begin[folder]; i < table.folder_begin[folder + 1]; ++i) {
      result.offset.push_back(table.offset[i]);
      result.bytes.push_back(table.bytes[i]);
      result.archive.push_back(table.archive[i]);
      result.name_begin.push_back(static_cast<uint32_t>(result.names.size()));
      result.names += table.Name(i);
    }
    result.folder_begin.push_back(static_cast<uint32_t>(result.offset.size()));
  }
  result.name_begin.push_back(static_cast<uint32_t>(result.names.size()));
  return result;
}

void NameClasses(const std::string& path, MemberTable& members) {
  const std::vector<std::string> names = ReadClasses(path);
  if (names.size() < members.folders.size()) {
    throw Error(ExitCode::kData,
                fmt::format("{} names {} classes, the shards have {}", path, names.size(),
                            members.folders.size()),
                "one name per class is expected, in the order of their numbers");
  }
  members.folder_begin.resize(names.size() + 1, static_cast<uint32_t>(members.size()));
  members.folders = names;
  // A member's identity is its place in the order of "folder/name", as in every other form: as
  // names, the classes "dog" and "dog-small" have the opposite order of their numbers.
  std::vector<size_t> order(names.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return names[a] + "/" < names[b] + "/"; });
  if (!std::is_sorted(order.begin(), order.end())) members = WithFoldersInOrder(members, order);
}

// Returns the number after "count = ".
std::optional<int64_t> ReadCount(const std::string& path) {
  for (const std::string& line : Split(ReadText(path, ExitCode::kData), '\n')) {
    const std::vector<std::string> parts = Split(line, '=');
    if (parts.size() == 2 && Trim(parts[0]) == "count") return ParseInteger(Trim(parts[1]));
  }
  return std::nullopt;
}

}  // namespace

std::string ShardStem(const std::string& name) {
  std::string stem = name.substr(0, name.rfind('.'));
  std::replace(stem.begin(), stem.end(), '.', '_');
  return stem;
}

std::string ShardStemWithExtension(const std::string& name) {
  return fmt::format("{}-{}", ShardStem(name), name.substr(name.rfind('.') + 1));
}

std::string UnpackedShardStem(const std::string& name) {
  std::string stem = ShardStem(name);
  const size_t end = stem.find_last_of("-_");
  if (end != std::string::npos && IsImageName("." + stem.substr(end + 1))) stem.resize(end);
  return stem;
}

void ApplyShardNotes(const std::string& folder, MemberTable& members) {
  const std::string classes = folder + "/" + kShardClassesFile;
  if (PathExists(classes)) NameClasses(classes, members);
  const std::string settings = folder + "/" + kShardSettingsFile;
  if (!PathExists(settings)) return;
  const std::optional<int64_t> count = ReadCount(settings);
  if (count && *count != members.size()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: the shards hold {} images, {} expected", folder,
                            FormatCount(members.size()), FormatCount(*count)),
                "finish them with the same convoy data pack command");
  }
}

}  // namespace convoy
