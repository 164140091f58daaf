#include "dataloader/sources/place.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/error.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/label_list.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

}  // namespace

Place ParseLocation(const std::string& location) {
  if (location.empty()) throw Error(ExitCode::kUsage, "no data set was given", "give its path");
  if (fs::exists(location)) return {location, ""};
  const size_t colon = location.rfind(':');
  if (colon != std::string::npos && colon > 0 && fs::exists(location.substr(0, colon))) {
    return {location.substr(0, colon), location.substr(colon + 1)};
  }
  throw Error(ExitCode::kData, fmt::format("no such data set: {}", location),
              "give a folder, an archive, or synthetic:N; a split stands behind a colon");
}

std::string NamedList(const Place& place) {
  if (!IsLabelListName(place.split)) return {};
  for (const fs::path& path : {fs::path(place.path) / place.split,
                               fs::path(place.path) / ".." / place.split, fs::path(place.split)}) {
    if (fs::exists(path)) return path.string();
  }
  throw Error(ExitCode::kData,
              fmt::format("{} has no list of labels {}", place.path, Printable(place.split)),
              "give its name in the folder, or its path");
}

}  // namespace convoy
