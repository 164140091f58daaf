// Finds out which form a data set has by what lies at its path.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/archive.h"
#include "dataloader/archives/index.h"
#include "dataloader/archives/inner_tar.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/arrange.h"
#include "dataloader/sources/folder.h"
#include "dataloader/sources/label_list.h"
#include "dataloader/sources/place.h"
#include "dataloader/sources/shard_splits.h"
#include "dataloader/sources/shards.h"
#include "dataloader/sources/sources.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// Every archive of a folder stays open; the usual limit is 1024 files.
void AllowManyFiles() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // if this fails, opening a file says so
}

void SayWhatIsLeftOut(const LeftOut& left_out, const std::string& where, Log& log) {
  if (!left_out.empty()) log.Info("{}: {}", where, left_out.Sentence());
}

// What is opened as one data set.
struct ArchiveSet {
  std::vector<std::string> paths;
  Place place;             // the split is inside of the archives
  std::string where;       // the data set as the user named it
  std::string index_name;  // the path from which the path of the index is made
  LeftOut beside;          // files beside the archives that are left out
};

std::unique_ptr<Dataset> OpenArchives(const ArchiveSet& set, const DatasetOptions& options,
                                      Log& log) {
  AllowManyFiles();
  MemberSource source;
  for (const std::string& path : set.paths) {
    source.archives.push_back(std::make_unique<FileBytes>(path));
  }
  ArchiveContents contents =
      ReadOrLoadArchives(source.archives, IndexPath(set.index_name, options.index_folder), log);
  source.left_out.all = contents.left_out;
  source.left_out.all.Add(set.beside);
  SayWhatIsLeftOut(source.left_out.all, set.where, log);
  const bool shards = contents.kind == ArchiveKind::kShards;
  const char* form = shards                                ? "packed shards"
                     : contents.kind == ArchiveKind::kFlat ? "tar"
                     : set.paths.size() > 1                ? "tars of classes"
                                                           : "tar of tars";
  source.description = fmt::format("{} {}", form, set.where);
  source.members = std::move(contents.members);
  if (shards && fs::is_directory(set.place.path)) {
    ApplyShardNotes(set.place.path, source.members);
  }
  return Arrange(std::move(source), set.place, "", options,
                 shards ? EmptyClasses::kKept : options.empty_classes, log);
}

// "a.tar, b.tar, ... (9 in all)".
std::string Names(const std::vector<std::string>& paths) {
  std::string text;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (i == 8) return text + fmt::format(", ... ({} in all)", paths.size());
    text += (text.empty() ? "" : ", ") + Printable(BaseOf(paths[i]));
  }
  return text;
}

// The official archives in one folder are several data sets, not the parts of one. It is better to
// say so now than after all of them were read.
void CheckOneDataset(const std::string& folder, const std::vector<std::string>& tars) {
  const auto is_tar_of_tars = [](const std::string& path) { return IsTarOfTars(FileBytes(path)); };
  if (tars.size() < 2 || std::none_of(tars.begin(), tars.end(), is_tar_of_tars)) return;
  throw Error(ExitCode::kData, fmt::format("{} holds several archives: {}", folder, Names(tars)),
              "give the archive itself, for example " + tars.front());
}

// Throws (kData) if something else that may be a part of the data set lies beside the tars.
void CheckBesideTars(const std::string& folder, FolderListing& listing) {
  const auto refuse = [&](const std::string& what, const std::string& example) {
    throw Error(ExitCode::kData,
                fmt::format("{}: found tars ({}) beside {} ({}), one of the two expected", folder,
                            Names(listing.tars), what, Printable(BaseOf(example))),
                "unpack the tars, or move what does not belong to them into another folder");
  };
  if (!listing.first_image.empty()) refuse("images", listing.first_image);
  for (const std::string& path : listing.folders) {
    if (ReadFolders(path).members.size() > 0) refuse("folders of images", path);
    const FolderListing below = ListFolder(path);
    if (!below.tars.empty()) refuse("folders of tars", path);
    listing.notes.Add("folder without images", BaseOf(path));
  }
}

[[noreturn]] void FailWithoutShardSplit(const Place& place, const std::vector<std::string>& tars,
                                        const std::vector<std::string>& splits) {
  std::string names, examples;
  for (const std::string& split : splits) {
    const auto tar = std::find_if(tars.begin(), tars.end(),
                                  [&](const auto& path) { return SplitOfShard(path) == split; });
    examples += fmt::format("{}{} ({})", examples.empty() ? "" : ", ",
                            split.empty() ? "without a name" : split, Printable(BaseOf(*tar)));
    if (!split.empty()) names += (names.empty() ? "" : ", ") + split;
  }
  if (!place.split.empty()) {
    throw Error(ExitCode::kData,
                fmt::format("{} has no split {}: found {}, by the names of its tars", place.path,
                            Printable(place.split), names),
                "name one of them");
  }
  const bool has_train = std::count(splits.begin(), splits.end(), "train") > 0;
  throw Error(
      ExitCode::kData,
      fmt::format("{} has several splits, by the names of its tars: {}", place.path, examples),
      fmt::format("name one: {}:{}", place.path, has_train ? "train" : splits.back()));
}

std::unique_ptr<Dataset> OpenTars(FolderListing listing, const Place& place,
                                  const DatasetOptions& options, Log& log) {
  CheckBesideTars(place.path, listing);
  ArchiveSet set{.paths = listing.tars,
                 .place = place,
                 .where = place.where(),
                 .index_name = place.path,
                 .beside = listing.notes};
  const std::vector<std::string> splits = SplitsOfShards(listing.tars);
  const std::string asked = SplitOfWord(place.split);
  if (!asked.empty() && std::count(splits.begin(), splits.end(), asked) > 0) {
    const auto is_other = [&](const std::string& path) { return SplitOfShard(path) != asked; };
    std::erase_if(set.paths, is_other);
    for (const FolderListing::Stray& stray : listing.strays) {
      if (is_other(stray.path)) set.beside.AddFile(BaseOf(stray.path));
    }
    std::erase_if(listing.strays, [&](const auto& stray) { return is_other(stray.path); });
    set.place.split.clear();
    set.index_name = fmt::format("{}.{}", place.path, asked);
  } else if (splits.size() > 1) {
    FailWithoutShardSplit(place, listing.tars, splits);
  }
  if (!listing.strays.empty()) {
    const FolderListing::Stray& stray = listing.strays.front();
    const std::string others = listing.strays.size() == 1
                                   ? std::string()
                                   : fmt::format(", and {} others", listing.strays.size() - 1);
    throw Error(
        ExitCode::kData,
        fmt::format("{} among {} tars is no tar: it is {}{}", stray.path, set.paths.size(),
                    stray.what, others),
        "fetch, unpack (gunzip) or repair it, or move it away if it is no part of the data");
  }
  CheckOneDataset(place.path, set.paths);
  if (const std::string missing = FirstMissingShard(set.paths); !missing.empty()) {
    log.Warning("{}: {} tars, and by their numbers {} is missing", set.where, set.paths.size(),
                Printable(missing));
  }
  return OpenArchives(set, options, log);
}

// Says what a user may miss in a folder of images, besides files that are no images.
void SayWhatMayBeMissed(const FolderContents& contents, const FolderListing& listing,
                        const std::string& where, Log& log) {
  if (!contents.runs.empty()) {
    log.Info("{}: left out the folder of a run, {}{}", where, Printable(contents.runs.front()),
             contents.runs.size() == 1 ? std::string()
                                       : fmt::format(", and {} others", contents.runs.size() - 1));
  }
  if (!contents.dangling.empty()) {
    log.Warning("{}: {}: they cannot be read, and count as bad images", where,
                contents.dangling.Listing());
  }
  for (const FolderListing::Stray& stray : listing.strays) {
    if (!IsPackedName(stray.path)) continue;
    log.Warning("{}: {} is {}, and left out", where, Printable(BaseOf(stray.path)), stray.what);
  }
}

// Throws (kData) if the folder has no images, and says why.
void CheckHoldsImages(const FolderContents& contents, const FolderListing& listing,
                      const std::string& path) {
  if (contents.members.size() > 0) return;
  if (!listing.strays.empty()) {
    const FolderListing::Stray& stray = listing.strays.front();
    throw Error(ExitCode::kData,
                fmt::format("{}: found {} files such as {} ({}) and no image", path,
                            listing.strays.size(), Printable(BaseOf(stray.path)), stray.what),
                "expected class folders, tars, IDX files or CIFAR files");
  }
  std::vector<std::string> with_tars;
  for (const std::string& folder : listing.folders) {
    if (!ListFolder(folder).tars.empty()) with_tars.push_back(folder);
  }
  if (with_tars.empty()) return;
  throw Error(ExitCode::kData, fmt::format("{} has tars in folders: {}", path, Names(with_tars)),
              fmt::format("name one: {}:{}", path, BaseOf(with_tars.front())));
}

std::unique_ptr<Dataset> OpenImageFolder(const FolderListing& listing, const Place& root,
                                         const std::string& where, const std::string& list,
                                         const DatasetOptions& options, Log& log) {
  for (const FolderListing::Stray& stray : listing.strays) {
    if (ExtensionOf(stray.path) != "tar" || listing.folders.empty()) continue;
    throw Error(ExitCode::kData,
                fmt::format("{} beside class folders is no tar: it is {}", stray.path, stray.what),
                "its images are missing: unpack it once more, or move it away");
  }
  FolderContents contents = ReadFolders(root.path);
  CheckHoldsImages(contents, listing, root.path);
  SayWhatMayBeMissed(contents, listing, where, log);
  MemberSource source;
  source.root = root.path;
  source.members = std::move(contents.members);
  source.left_out = {std::move(contents.left_out), std::move(contents.left_out_of)};
  source.description = fmt::format("folder {}", where);
  auto dataset = Arrange(std::move(source), root, list, options, options.empty_classes, log);
  SayWhatIsLeftOut(dataset->left_out(), where, log);
  return dataset;
}

std::unique_ptr<Dataset> OpenFolder(const Place& place, const DatasetOptions& options, Log& log) {
  const std::vector<std::string> files = NamesOfOtherFiles(place.path);
  if (auto dataset = OpenIdx(place.path, files, place.split)) return dataset;
  if (auto dataset = OpenCifar(place.path, files, place.split)) return dataset;

  Place root = place;
  const std::string list = NamedList(place);
  const fs::path below = fs::path(place.path) / place.split;
  if (!list.empty()) {
    root.split.clear();
  } else if (!place.split.empty() && fs::is_directory(below)) {
    root = {below.string(), ""};
  }
  FolderListing listing = ListFolder(root.path);
  if (!listing.tars.empty() && list.empty()) {
    return OpenTars(std::move(listing), root, options, log);
  }
  return OpenImageFolder(listing, root, place.where(), list, options, log);
}

// The images of a list lie beside it, in the folder of its name, in "images", or in the only folder
// that has images.
std::unique_ptr<Dataset> OpenList(const std::string& path, const DatasetOptions& options,
                                  Log& log) {
  const fs::path parent = fs::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  const FolderListing listing = ListFolder(folder);
  std::vector<std::string> candidates;
  if (!listing.first_image.empty()) {
    candidates.push_back(folder);
  } else {
    for (const std::string& below : listing.folders) {
      const bool is_named =
          BaseOf(below) == fs::path(path).stem() || IsImageFolderName(BaseOf(below));
      if (is_named) candidates.insert(candidates.begin(), below);
    }
    if (candidates.empty()) {
      for (const std::string& below : listing.folders) {
        if (!ListFolder(below).first_image.empty()) candidates.push_back(below);
      }
      if (candidates.size() > 1) {
        throw Error(ExitCode::kData,
                    fmt::format("{}: which of the folders beside it holds its images: {}?", path,
                                Names(candidates)),
                    fmt::format("name it: {}:{}", candidates.front(), path));
      }
    }
  }
  if (candidates.empty()) {
    throw Error(ExitCode::kData, fmt::format("{}: found no image beside it", path),
                fmt::format("name their folder: FOLDER:{}", path));
  }
  const Place root{candidates.front(), ""};
  return OpenImageFolder(ListFolder(root.path), root, path, path, options, log);
}

}  // namespace

std::shared_ptr<const Dataset> OpenDataset(const std::string& location,
                                           const DatasetOptions& options, Log& log) {
  if (location.starts_with("synthetic:")) return OpenSynthetic(location);
  try {
    const Place place = ParseLocation(location);
    if (fs::is_directory(place.path)) return OpenFolder(place, options, log);
    RequireRegularFile(place.path, ExitCode::kData);
    if (IsTarFile(place.path)) {
      return OpenArchives({.paths = {place.path},
                           .place = place,
                           .where = place.where(),
                           .index_name = place.path,
                           .beside = {}},
                          options, log);
    }
    if (IsLabelListName(place.path)) return OpenList(place.path, options, log);
    const std::string what = DescribeFile(place.path);
    if (what == "a tar") {
      throw Error(ExitCode::kData,
                  fmt::format("{} is a tar whose first header is damaged", place.path),
                  "download or pack it again");
    }
    throw Error(ExitCode::kData,
                fmt::format("{} is {}, a tar or a folder expected", place.path, what),
                "give a folder or a tar; a compressed one has to be unpacked once (gunzip)");
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::kData,
                fmt::format("cannot read {}: {}", error.path1().string(), error.code().message()),
                "check its permissions");
  }
}

}  // namespace convoy
