#include "dataloader/shards.h"

#include <filesystem>
#include <optional>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "dataloader/names.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

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

void NameClasses(const std::string& path, MemberTable& members) {
  const std::vector<std::string> names = ReadClasses(path);
  if (names.size() < members.folders.size()) {
    throw Error(ExitCode::kData,
                fmt::format("{} names {} classes, the shards have {}", path, names.size(),
                            members.folders.size()),
                "one name per class is expected, in the order of their numbers");
  }
  members.folders = names;
  members.folder_begin.resize(names.size() + 1, static_cast<uint32_t>(members.size()));
}

// The number behind "count = ".
std::optional<int64_t> ReadCount(const std::string& path) {
  for (const std::string& line : Split(ReadText(path, ExitCode::kData), '\n')) {
    const std::vector<std::string> parts = Split(line, '=');
    if (parts.size() == 2 && Trim(parts[0]) == "count") return ParseInteger(Trim(parts[1]));
  }
  return std::nullopt;
}

}  // namespace

void ApplyShardNotes(const std::string& folder, MemberTable& members) {
  const std::string classes = folder + "/" + kShardClassesFile;
  if (fs::exists(classes)) NameClasses(classes, members);
  const std::string settings = folder + "/" + kShardSettingsFile;
  if (!fs::exists(settings)) return;
  const std::optional<int64_t> count = ReadCount(settings);
  if (count && *count != members.size()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: the shards hold {} images, {} expected", folder,
                            FormatCount(members.size()), FormatCount(*count)),
                "finish them with the same convoy data pack command");
  }
}

}  // namespace convoy
