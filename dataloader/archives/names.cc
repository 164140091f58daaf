#include "dataloader/archives/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace convoy {

std::string_view FolderOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

std::string_view BaseOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::string ExtensionOf(std::string_view path) {
  const std::string_view base = BaseOf(path);
  const size_t point = base.rfind('.');
  if (point == std::string_view::npos) return {};
  return LowerCase(base.substr(point + 1));
}

bool IsImageName(std::string_view path) {
  constexpr std::array<std::string_view, 5> kExtensions = {"jpeg", "jpg", "jpe", "jfif", "png"};
  return std::find(kExtensions.begin(), kExtensions.end(), ExtensionOf(path)) != kExtensions.end();
}

bool IsIgnoredName(std::string_view base) {
  constexpr std::array<std::string_view, 6> kAdded = {"__MACOSX",    "Icon\r", "Thumbs.db",
                                                      "desktop.ini", "@eaDir", "lost+found"};
  if (base.empty() || base.front() == '.' || base.ends_with(".partial")) return true;
  if (ExtensionOf(base).starts_with("convoy-")) return true;
  return std::find(kAdded.begin(), kAdded.end(), base) != kAdded.end();
}

bool IsIgnoredPath(std::string_view path) {
  while (true) {
    const size_t slash = path.find('/');
    if (IsIgnoredName(path.substr(0, slash))) return true;
    if (slash == std::string_view::npos) return false;
    path.remove_prefix(slash + 1);
  }
}

std::string Printable(std::string_view text) {
  constexpr size_t kLongest = 120;
  std::string result;
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte >= 0x20 && byte < 0x7F ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  if (text.size() > kLongest) result += "...";
  return result;
}

}  // namespace convoy
