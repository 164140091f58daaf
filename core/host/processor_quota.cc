#include "core/host/processor_quota.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "core/text.h"

namespace convoy {
namespace {

enum class Version { kOne, kTwo };

// A hierarchy of control groups that is mounted here.
struct Hierarchy {
  Version version;
  std::string root;         // the group that the mount point shows: "/docker/abc"
  std::string mount_point;  // "/sys/fs/cgroup/cpu"
};

std::vector<std::string> LinesOf(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// Returns the words of the first line; none if the file cannot be read.
std::vector<std::string> WordsOf(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  std::vector<std::string> result;
  for (std::string word; words >> word;) result.push_back(word);
  return result;
}

bool Contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Returns `text` with its escapes undone: the kernel writes a blank as \040.
std::string WithoutEscapes(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t k) { return text[k] >= '0' && text[k] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && is_digit(i + 1) && is_digit(i + 2) &&
        is_digit(i + 3)) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                  (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

// Returns those that may limit processor time. A line of mountinfo: id, parent, device, root, mount
// point, options, any number of optional fields, "-", file system, source, options of the file
// system.
std::vector<Hierarchy> FindHierarchies(const std::string& root) {
  std::vector<Hierarchy> hierarchies;
  for (const std::string& line : LinesOf(root + "/proc/self/mountinfo")) {
    const std::vector<std::string> fields = Split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const std::string& type = dash[1];
    if (type == "cgroup2") {
      hierarchies.push_back({Version::kTwo, WithoutEscapes(fields[3]), WithoutEscapes(fields[4])});
    } else if (type == "cgroup" && Contains(Split(dash[3], ','), "cpu")) {
      hierarchies.push_back({Version::kOne, WithoutEscapes(fields[3]), WithoutEscapes(fields[4])});
    }
  }
  return hierarchies;
}

// This process's own group in the hierarchy: "/docker/abc". A line: number, controllers (none for
// version 2), path.
std::optional<std::string> OwnGroup(Version version, const std::string& root) {
  for (const std::string& line : LinesOf(root + "/proc/self/cgroup")) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool matches =
        version == Version::kTwo ? controllers.empty() : Contains(Split(controllers, ','), "cpu");
    if (matches) return line.substr(second + 1);
  }
  return std::nullopt;
}

// Returns the quota of one group; nothing if it has none.
std::optional<double> QuotaOf(Version version, const std::string& folder) {
  std::vector<std::string> words;
  if (version == Version::kTwo) {
    words = WordsOf(folder + "/cpu.max");  // "150000 100000" or "max 100000"
  } else {
    for (const char* name : {"/cpu.cfs_quota_us", "/cpu.cfs_period_us"}) {  // -1: none
      for (std::string& word : WordsOf(folder + name)) words.push_back(std::move(word));
    }
  }
  if (words.size() != 2) return std::nullopt;
  const std::optional<int64_t> quota = ParseInteger(words[0]), period = ParseInteger(words[1]);
  if (!quota || !period || *quota < 1 || *period < 1) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// Returns the path of `group` below what the mount point shows: "" or "/a/b". In a container the
// group may be named as the host sees it; then the mount point is the best guess.
std::string PathBelow(const Hierarchy& hierarchy, const std::string& group) {
  const std::string& shown = hierarchy.root;
  std::string below;
  if (shown == "/") {
    below = group;
  } else if (group == shown || group.starts_with(shown + "/")) {
    below = group.substr(shown.size());
  }
  if (below == "/" || below.find("/..") != std::string::npos) return {};
  return below;
}

}  // namespace

std::optional<ProcessorQuota> FindProcessorQuota(const std::string& root) {
  std::optional<ProcessorQuota> smallest;
  for (const Hierarchy& hierarchy : FindHierarchies(root)) {
    const std::optional<std::string> group = OwnGroup(hierarchy.version, root);
    if (!group) continue;
    for (std::string below = PathBelow(hierarchy, *group);; below.resize(below.find_last_of('/'))) {
      const std::string path = hierarchy.mount_point + below;
      const std::optional<double> processors = QuotaOf(hierarchy.version, root + path);
      if (processors && (!smallest || *processors < smallest->processors)) {
        smallest = ProcessorQuota{*processors, path};
      }
      if (below.find_last_of('/') == std::string::npos) break;
    }
  }
  return smallest;
}

int WholeProcessors(const ProcessorQuota& quota) {
  constexpr double kMost = 1 << 16;  // more than any host has
  return static_cast<int>(std::clamp(std::ceil(quota.processors), 1.0, kMost));
}

}  // namespace convoy
