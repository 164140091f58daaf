#include "trainer/ranks/same_everywhere.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "core/settings_text.h"
#include "core/text.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

// What a rank reports, in its order. A name that stands there several times has all its values.
struct Report {
  std::vector<std::string> names;
  std::map<std::string, std::string> values;
};

Report Parse(const std::string& text) {
  Report report;
  for (const auto& [name, value] : ParseSettings("what a rank reports", text)) {
    const auto [entry, is_new] = report.values.emplace(name, value);
    if (is_new) {
      report.names.push_back(name);
    } else {
      entry->second += ", " + value;
    }
  }
  return report;
}

// Short enough for a line that has many of them.
std::string Shown(const Report& report, const std::string& name) {
  constexpr size_t kMost = 80;
  const auto found = report.values.find(name);
  if (found == report.values.end()) return "not given";
  std::string value = found->second;
  if (value.empty()) return "empty";
  const auto is_control = [](unsigned char c) { return std::iscntrl(c) != 0; };
  std::replace_if(value.begin(), value.end(), is_control, ' ');
  return value.size() <= kMost ? value : value.substr(0, kMost) + "...";
}

// Names whose values differ, in the order of `ours`, then of `theirs`.
std::vector<std::string> NamesThatDiffer(const Report& ours, const Report& theirs) {
  std::vector<std::string> names;
  for (const Report* report : {&ours, &theirs}) {
    for (const std::string& name : report->names) {
      const auto a = ours.values.find(name), b = theirs.values.find(name);
      const bool is_same =
          a != ours.values.end() && b != theirs.values.end() && a->second == b->second;
      if (!is_same && std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  return names;
}

}  // namespace

std::string DescribeDifferences(const std::vector<std::string>& hosts,
                                const std::vector<std::string>& reports) {
  const Report first = Parse(reports[0]);
  std::vector<std::string> told;  // names
  std::string text;
  int64_t differing = 0;
  for (size_t rank = 1; rank < reports.size(); ++rank) {
    if (reports[rank] == reports[0]) continue;
    ++differing;
    const Report report = Parse(reports[rank]);
    std::vector<std::string> parts;
    for (const std::string& name : NamesThatDiffer(first, report)) {
      if (std::find(told.begin(), told.end(), name) != told.end()) continue;
      told.push_back(name);
      parts.push_back(
          fmt::format("{} {} (rank 0: {})", name, Shown(report, name), Shown(first, name)));
    }
    if (parts.empty()) continue;
    text += fmt::format("{}rank {} ({}): {}", text.empty() ? "" : "; ", rank, hosts[rank],
                        fmt::join(parts, ", "));
  }
  if (differing > 1) text += fmt::format("; {} differ", FormatCount(differing, "rank"));
  return text;
}

void RequireSameEverywhere(World& world, const std::string& report, const std::string& what,
                           const std::string& hint) {
  if (world.size() == 1) return;
  const std::vector<uint64_t> checksums =
      GatherRows(world, Hash64(report), "comparing what the ranks have");
  const auto is_first = [&](uint64_t checksum) { return checksum == checksums[0]; };
  if (std::all_of(checksums.begin(), checksums.end(), is_first)) return;
  const std::vector<std::string> reports =
      GatherTexts(world, report, "naming what differs between the ranks");
  throw Error(ExitCode::kUsage,
              fmt::format("{}: {}", what, DescribeDifferences(world.hosts(), reports)), hint);
}

}  // namespace convoy
