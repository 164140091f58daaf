#include "dataloader/sources/arrange.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/devkit.h"
#include "dataloader/sources/label_list.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// Returns the number in "ILSVRC2012_val_00000001.JPEG" if `kind` is "val".
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

// Moves validation images into the class folders that the devkit names.
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

// Says which layouts have classes.
[[noreturn]] void FailWithoutClasses(const MemberSource& source, const Place& place) {
  throw Error(ExitCode::kData,
              fmt::format("{}: found {} images without class folders, the first {}", place.path,
                          source.members.size(), Printable(source.members.Name(0))),
              source.archives.empty()
                  ? "expected class folders, class tars, ILSVRC2012_val_NNNNNNNN.JPEG files, or a "
                    "CSV beside the images with a line \"name,label\" for each"
                  : "expected class folders, class tars, or ILSVRC2012_val_NNNNNNNN.JPEG files; a "
                    "list of labels is read for images in a folder alone");
}

// What is left out if the list at `path` is not, provided that it lies in one of `folders`.
LeftOut WithoutList(const LeftOut& left_out, const std::string& path,
                    const std::vector<std::string>& folders) {
  const fs::path parent = fs::absolute(path).lexically_normal().parent_path();
  const bool is_counted =
      std::any_of(folders.begin(), folders.end(), [&](const std::string& folder) {
        return (fs::absolute(folder) / "x").lexically_normal().parent_path() == parent;
      });
  if (!is_counted) return left_out;
  LeftOut rest;
  for (const auto& [kind, entry] : left_out.kinds()) {
    const int64_t count = entry.count - (kind == "." + ExtensionOf(path) ? 1 : 0);
    if (count > 0) rest.Add(kind, entry.first, count);
  }
  return rest;
}

// Gives images that lie in one folder, without folders of their classes, the folders that a devkit
// or a list of labels says.
void ArrangeLooseImages(MemberSource& source, const Place& place, const std::string& list_path,
                        const DatasetOptions& options, Log& log) {
  const std::string folder = source.members.folders[*OnlyFolder(source.members)];
  const std::string path = folder.empty() ? source.root : source.root + "/" + folder;
  const bool are_validation = AllNumbered(source.members, "val");
  if (are_validation && list_path.empty() && !options.devkit.empty()) {
    source.members =
        ArrangeByTruth(source.members, ReadDevkit(options.devkit), place.path, options.devkit);
    source.files_in = folder;
    return;
  }
  std::optional<LabelList> list;
  if (source.archives.empty()) {
    if (!list_path.empty()) {
      list = ReadLabelList(list_path, source.members);
      if (!list) {
        throw Error(ExitCode::kData,
                    fmt::format("{} is no list of the {} images in {}", list_path,
                                FormatCount(source.members.size()), path),
                    "expected a column with their names, and one with a header such as label");
      }
    } else if (!(list = FindLabelList(path, source.members)) && !folder.empty()) {
      list = FindLabelList(source.root, source.members);
    }
  }
  if (list) {
    log.Info("{}: labels are those of {}", path, list->path);
    source.members = ArrangeByLabels(source.members, *list, path);
    source.files_in = folder;
    source.left_out.all = WithoutList(source.left_out.all, list->path, {path, source.root});
    return;
  }
  if (!are_validation) FailWithoutClasses(source, place);
  throw Error(
      ExitCode::kData,
      fmt::format("{} holds validation images, whose classes are in the devkit", place.path),
      "add --devkit ILSVRC2012_devkit_t12.tar.gz");
}

}  // namespace

std::unique_ptr<Dataset> Arrange(MemberSource source, const Place& place, const std::string& list,
                                 const DatasetOptions& options, EmptyClasses empty_classes,
                                 Log& log) {
  const std::optional<size_t> only = OnlyFolder(source.members);
  if (only && list.empty() && AllNumbered(source.members, "test")) {
    if (!place.split.empty()) {
      throw Error(ExitCode::kData,
                  fmt::format("{} has no split {}", place.path, Printable(place.split)),
                  "leave the split out");
    }
    source.layout.first = *only;
    source.layout.last = *only + 1;
    return MakeUnlabelledDataset(std::move(source));
  }
  // In a class folder, such names mean validation images that were sorted into classes.
  const bool are_loose = only && (source.members.folders[*only].empty() ||
                                  IsImageFolderName(source.members.folders[*only]));
  if (are_loose) {
    ArrangeLooseImages(source, place, list, options, log);
    empty_classes = EmptyClasses::kKept;
  } else if (!list.empty()) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}: the images of a list of labels lie in one folder, found {} folders",
                    place.path, source.members.folders.size()),
        fmt::format("name it: FOLDER:{}", list));
  }
  source.layout =
      FindClasses(source.members, place.split, place.path, empty_classes, source.left_out);
  return MakeMemberDataset(std::move(source));
}

}  // namespace convoy
