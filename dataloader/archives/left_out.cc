#include "dataloader/left_out.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/text.h"
#include "dataloader/archives/names.h"

namespace convoy {
namespace {

constexpr size_t kMostKinds = 32;
constexpr size_t kLongestExtension = 12, kLongestName = 120;

// Returns whether an extension can be printed in a line.
bool IsPlain(std::string_view extension) {
  return !extension.empty() && extension.size() <= kLongestExtension &&
         std::all_of(extension.begin(), extension.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
         });
}

}  // namespace

void LeftOut::AddFile(std::string_view name) {
  const std::string extension = ExtensionOf(name);
  if (IsPlain(extension)) {
    Add("." + extension, name);
  } else {
    Add(extension.empty() ? "without an extension" : "other files", name);
  }
}

void LeftOut::Add(const std::string& kind, std::string_view first_name, int64_t count) {
  const bool is_known = kinds_.contains(kind);
  Kind& entry = kinds_[is_known || kinds_.size() < kMostKinds ? kind : "other files"];
  const std::string_view name = first_name.substr(0, kLongestName);
  if (entry.count == 0 || name < entry.first) entry.first = name;
  entry.count += count;
}

void LeftOut::Add(const LeftOut& others) {
  for (const auto& [kind, entry] : others.kinds_) Add(kind, entry.first, entry.count);
}

int64_t LeftOut::count() const {
  int64_t count = 0;
  for (const auto& [kind, entry] : kinds_) count += entry.count;
  return count;
}

std::string LeftOut::Listing() const {
  std::vector<std::pair<std::string, Kind>> sorted(kinds_.begin(), kinds_.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.count > b.second.count; });
  std::string text;
  for (const auto& [kind, entry] : sorted) {
    text +=
        fmt::format("{}{} {}", text.empty() ? "" : ", ", FormatCount(entry.count), Printable(kind));
    // An extension says what to look for. For other kinds, a name does.
    if (!kind.starts_with('.')) text += fmt::format(" ({})", Printable(entry.first));
  }
  return text;
}

std::string LeftOut::Sentence() const {
  if (empty()) return {};
  return count() == 1 ? "left out 1 file that is no JPEG or PNG: " + Listing()
                      : fmt::format("left out {} files that are no JPEG or PNG: {}",
                                    FormatCount(count()), Listing());
}

}  // namespace convoy
