// Tells the forms of a data set apart by what lies at its path.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/archive.h"
#include "dataloader/archives/index.h"
#include "dataloader/archives/names.h"
#include "dataloader/archives/tar.h"
#include "dataloader/images/image.h"
#include "dataloader/sources/devkit.h"
#include "dataloader/sources/shards.h"
#include "dataloader/sources/sources.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

struct Place {
  std::string path, split;
  std::string where() const { return split.empty() ? path : path + ":" + split; }
};

// "PATH" or "PATH:SPLIT"; a path that holds a colon itself comes first.
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

// The number in "ILSVRC2012_val_00000001.JPEG" where `kind` is "val".
std::optional<int64_t> NumberInName(std::string_view name, std::string_view kind) {
  constexpr size_t kYearEnd = 10, kDigits = 8;
  const std::string infix = fmt::format("_{}_", kind);
  if (!name.starts_with("ILSVRC20") ||
      name.substr(std::min(kYearEnd, name.size()), infix.size()) != infix) {
    return std::nullopt;
  }
  const std::string_view rest = name.substr(kYearEnd + infix.size());
  const size_t point = rest.find('.');
  if (point != kDigits) return std::nullopt;
  return ParseInteger(rest.substr(0, kDigits));
}

bool AllNumbered(const MemberTable& members, std::string_view kind) {
  for (int64_t i = 0; i < members.size(); ++i) {
    if (!NumberInName(members.Name(i), kind)) return false;
  }
  return members.size() > 0;
}

// The one folder that holds all images.
std::optional<size_t> OnlyFolder(const MemberTable& members) {
  if (members.size() == 0) return std::nullopt;
  const size_t folder = members.FolderIndex(0);
  return members.FolderIndex(members.size() - 1) == folder ? std::optional(folder) : std::nullopt;
}

// Validation images move into the class folders that the devkit says.
MemberTable ArrangeByTruth(const MemberTable& members, const ValidationTruth& truth,
                           const std::string& where, const std::string& devkit) {
  if (members.size() != static_cast<int64_t>(truth.labels.size())) {
    throw Error(ExitCode::kData,
                fmt::format("{} holds {} images, but {} has the classes of {}", where,
                            members.size(), devkit, truth.labels.size()),
                "archive and devkit must be of the same year, and complete");
  }
  MemberTableBuilder builder;
  for (const std::string& wnid : truth.wnids) builder.Folder(wnid);
  for (int64_t i = 0; i < members.size(); ++i) {
    const auto member = static_cast<size_t>(i);
    const std::optional<int64_t> number = NumberInName(members.Name(i), "val");
    if (!number || *number < 1 || *number > members.size()) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: {}, a number from 1 to {} expected", where,
                              Printable(members.Name(i)), members.size()),
                  "archive and devkit must be of the same year");
    }
    const int32_t label = truth.labels[static_cast<size_t>(*number) - 1];
    builder.Add(builder.Folder(truth.wnids[static_cast<size_t>(label)]), members.Name(i),
                members.archive[member], members.offset[member], members.bytes[member]);
  }
  return builder.Finish({});
}

// Classes from folders, from a devkit, or none.
std::unique_ptr<Dataset> Arrange(MemberSource source, const Place& place,
                                 const DatasetOptions& options, EmptyClasses empty_classes) {
  const std::optional<size_t> only = OnlyFolder(source.members);
  if (only && AllNumbered(source.members, "test")) {
    if (!place.split.empty()) {
      throw Error(ExitCode::kData,
                  fmt::format("{} has no split {}", place.path, Printable(place.split)),
                  "leave the split out");
    }
    source.layout.first = *only;
    source.layout.last = *only + 1;
    return MakeUnlabelledDataset(std::move(source));
  }
  // Inside of a class folder these names are those of sorted validation images.
  if (only && source.members.folders[*only].empty()) {
    if (!AllNumbered(source.members, "val")) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: found {} images without class folders, the first {}", place.path,
                              source.members.size(), Printable(source.members.Name(0))),
                  "expected class folders, class tars, or ILSVRC2012_val_NNNNNNNN.JPEG files");
    }
    if (options.devkit.empty()) {
      throw Error(
          ExitCode::kData,
          fmt::format("{} holds validation images, whose classes are in the devkit", place.path),
          "add --devkit ILSVRC2012_devkit_t12.tar.gz");
    }
    source.members =
        ArrangeByTruth(source.members, ReadDevkit(options.devkit), place.path, options.devkit);
    empty_classes = EmptyClasses::kAllowed;
  }
  source.layout = FindClasses(source.members, place.split, place.path, empty_classes);
  return MakeMemberDataset(std::move(source));
}

// Every archive of a folder stays open; the usual limit is 1024 files.
void AllowManyFiles() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // where it fails, opening a file says so
}

std::unique_ptr<Dataset> OpenArchives(const std::vector<std::string>& paths, const Place& place,
                                      const DatasetOptions& options, Log& log) {
  AllowManyFiles();
  MemberSource source;
  for (const std::string& path : paths)
    source.archives.push_back(std::make_unique<FileBytes>(path));
  ArchiveContents contents =
      ReadOrLoadArchives(source.archives, IndexPath(place.path, options.index_folder), log);
  if (contents.ignored > 0) {
    log.Info("{}: {} files that are no images are left out", place.path,
             FormatCount(contents.ignored));
  }
  const bool shards = contents.kind == ArchiveKind::kShards;
  const char* form = shards                                ? "packed shards"
                     : contents.kind == ArchiveKind::kFlat ? "tar"
                     : paths.size() > 1                    ? "tars of classes"
                                                           : "tar of tars";
  source.description = fmt::format("{} {}", form, place.where());
  source.members = std::move(contents.members);
  if (shards && fs::is_directory(place.path)) ApplyShardNotes(place.path, source.members);
  return Arrange(std::move(source), place, options,
                 shards ? EmptyClasses::kAllowed : EmptyClasses::kRefused);
}

// Whether a tar begins at byte `offset` of a file.
bool IsTarAt(const std::string& path, int64_t offset) {
  const File file = File::OpenForReading(path, ExitCode::kData);
  if (file.size() < offset + kTarBlock) return false;
  uint8_t block[kTarBlock];
  file.ReadAt(offset, block, kTarBlock);
  return IsTarHeader(block);
}
bool IsTarFile(const std::string& path) { return IsTarAt(path, 0); }
// Whether its first member is a tar.
bool IsTarOfTars(const std::string& path) { return IsTarAt(path, kTarBlock); }

// The official archives in one folder are several data sets, not the parts of one: better said now
// than after reading all of them.
void CheckOneDataset(const std::string& folder, const std::vector<std::string>& tars) {
  if (tars.size() < 2 || std::none_of(tars.begin(), tars.end(), IsTarOfTars)) return;
  std::string names;
  for (const std::string& tar : tars) {
    names += (names.empty() ? "" : ", ") + Printable(BaseOf(tar));
  }
  throw Error(ExitCode::kData, fmt::format("{} holds several archives: {}", folder, names),
              "give the archive itself, for example " + tars.front());
}

std::unique_ptr<Dataset> OpenFolder(const Place& place, const DatasetOptions& options, Log& log) {
  if (auto dataset = OpenIdx(place.path, place.split)) return dataset;
  if (auto dataset = OpenCifar(place.path, place.split)) return dataset;

  Place root = place;
  const fs::path below = fs::path(place.path) / place.split;
  if (!place.split.empty() && fs::is_directory(below)) root = {below.string(), ""};
  std::vector<std::string> tars, others;
  bool has_folders = false, has_images = false;
  for (const auto& entry : fs::directory_iterator(root.path)) {
    const std::string name = entry.path().filename().string();
    if (IsIgnoredName(name)) continue;
    if (entry.is_directory()) {
      has_folders = true;
    } else if (IsImageName(name)) {
      has_images = true;
    } else if (entry.is_regular_file()) {
      (IsTarFile(entry.path().string()) ? tars : others).push_back(entry.path().string());
    }
  }
  if (!tars.empty() && !has_folders && !has_images) {
    std::sort(tars.begin(), tars.end());
    CheckOneDataset(root.path, tars);
    return OpenArchives(tars, root, options, log);
  }
  MemberSource source;
  source.root = root.path;
  source.members = ReadFolders(root.path);
  source.description = fmt::format("folder {}", place.where());
  if (source.members.size() == 0 && !others.empty()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: found {} files such as {} and no image", root.path, others.size(),
                            Printable(BaseOf(others.front()))),
                "expected class folders, tars, IDX files or CIFAR files");
  }
  return Arrange(std::move(source), root, options, EmptyClasses::kRefused);
}

}  // namespace

std::shared_ptr<const Dataset> OpenDataset(const std::string& location,
                                           const DatasetOptions& options, Log& log) {
  if (location.starts_with("synthetic:")) return OpenSynthetic(location);
  try {
    const Place place = ParseLocation(location);
    if (fs::is_directory(place.path)) return OpenFolder(place, options, log);
    if (IsTarFile(place.path)) return OpenArchives({place.path}, place, options, log);
    const File file = File::OpenForReading(place.path, ExitCode::kData);
    std::array<uint8_t, 64> start{};
    const int64_t bytes = std::min<int64_t>(file.size(), static_cast<int64_t>(start.size()));
    file.ReadAt(0, start.data(), bytes);
    throw Error(
        ExitCode::kData,
        fmt::format("{} is {}, a tar or a folder expected", place.path,
                    DescribeContent(start.data(), static_cast<size_t>(bytes))),
        "a compressed archive has to be unpacked once (gunzip); it cannot be read in place");
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::kData,
                fmt::format("cannot read {}: {}", error.path1().string(), error.code().message()),
                "check its permissions");
  }
}

}  // namespace convoy
