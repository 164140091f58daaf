// Whether an output would destroy what it is made of.
#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "dataloader/packing.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// One file or folder under any of its names: links are followed.
bool IsSame(const fs::path& a, const fs::path& b) {
  std::error_code absent;
  return fs::equivalent(a, b, absent);
}

// The file or folder of "PATH" or "PATH:SPLIT"; the split's own folder if it has one. Empty for
// noise.
fs::path SourceOf(const std::string& location) {
  std::error_code absent;
  if (fs::exists(location, absent)) return location;
  const size_t colon = location.rfind(':');
  if (colon == std::string::npos || location.starts_with("synthetic:")) return {};
  const fs::path path = location.substr(0, colon);
  const fs::path split = path / location.substr(colon + 1);
  return fs::is_directory(split, absent) ? split : path;
}

// Whether `path` is `folder` or lies below it, be it there or not.
bool LiesIn(const fs::path& path, const fs::path& folder) {
  std::error_code error;
  fs::path above = fs::weakly_canonical(fs::absolute(path), error);
  while (!error && !above.empty()) {
    if (IsSame(above, folder)) return true;
    if (above == above.root_path()) break;
    above = above.parent_path();
  }
  return false;
}

}  // namespace

void RequireOtherThanSource(const Dataset& dataset, const std::string& location,
                            const std::string& devkit, const std::string& output) {
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::kUsage, fmt::format("--output {} {}", output, what),
                "give another path: the source stays as it is");
  };
  // What is written first lies beside it.
  const std::vector<std::string> written = {output, output + ".partial"};
  const fs::path source = SourceOf(location);
  std::error_code absent;
  if (fs::is_directory(source, absent) && LiesIn(output, source)) {
    fail(fmt::format("lies in {}, from which it is made", source.string()));
  }
  std::vector<std::string> sources = dataset.Archives();
  if (!devkit.empty()) sources.push_back(devkit);
  for (const std::string& archive : sources) {
    for (const std::string& path : written) {
      if (IsSame(path, archive))
        fail(fmt::format("would replace {}, from which it is made", archive));
    }
  }
}

}  // namespace convoy
