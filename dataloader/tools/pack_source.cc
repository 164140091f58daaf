// Finds out whether an output would destroy what it is made from.
#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "dataloader/packing.h"
#include "dataloader/sources/place.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// Returns whether two names are of one file or folder; follows links.
bool IsSame(const fs::path& a, const fs::path& b) {
  std::error_code absent;
  return fs::equivalent(a, b, absent);
}

// Returns the file or folder of `location`, that of its split if it has one, and the list of labels
// if one was named. Empty for noise.
std::vector<fs::path> SourcesOf(const std::string& location) {
  if (location.starts_with("synthetic:")) return {};
  const Place place = ParseLocation(location);
  const fs::path below = fs::path(place.path) / place.split;
  std::error_code absent;
  if (!place.split.empty() && fs::is_directory(below, absent)) return {below};
  std::vector<fs::path> sources = {place.path};
  if (const std::string list = NamedList(place); !list.empty()) sources.emplace_back(list);
  return sources;
}

// Returns whether `path` is `folder` or lies below it. It need not exist.
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
  // The file that is written first lies beside it.
  const std::vector<std::string> written = {output, output + ".partial"};
  std::vector<std::string> sources = dataset.Archives();
  std::error_code absent;
  for (const fs::path& source : SourcesOf(location)) {
    sources.push_back(source.string());
    if (fs::is_directory(source, absent) && LiesIn(output, source)) {
      fail(fmt::format("lies in {}, from which it is made", source.string()));
    }
  }
  if (!devkit.empty()) sources.push_back(devkit);
  for (const std::string& source : sources) {
    for (const std::string& path : written) {
      if (IsSame(path, source))
        fail(fmt::format("would replace {}, from which it is made", source));
    }
  }
}

}  // namespace convoy
