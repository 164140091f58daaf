// dataloader/archives/index.h - what archives hold, kept on disk, so that a run starts without
// reading their headers again (docs/formats.md has the layout); and other files beside an index.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/host/log.h"
#include "dataloader/archives/archive.h"
#include "dataloader/dataset.h"

namespace convoy {

// An archive or image file as it was when it was read: if its size or time differs, it is another
// one. The name has no folder, so that archive and index may move together.
struct FileStamp {
  std::string name;
  int64_t bytes = 0, modified_ns = 0;

  bool operator==(const FileStamp&) const = default;
};
// Throws (kData) if the file cannot be examined.
FileStamp StampOf(const std::string& path);

// Returns where the index of the data set at `path` (an archive or a folder of them) lies: in
// `index_folder`, else beside `path` if that may be written, else in the user's cache folder. Empty
// if there is no such place.
std::string IndexPath(const std::string& path, const std::string& index_folder);

// Returns a file beside the index of `dataset`, opened from `location`, whose name ends with
// `ending`. The name holds a hash of some samples' names and places, so that another data set at
// the same path has another file. Empty if there is no such place.
std::string CompanionPath(const std::string& location, const std::string& index_folder,
                          const Dataset& dataset, const std::string& ending);

// Returns nothing if there is no index, or if it is damaged or of other archives, which `log` is
// told. Checks the size and time of every archive, and a sample of the headers in them.
std::optional<ArchiveContents> LoadIndex(const std::string& index_path, const Archives& archives,
                                         Log& log);

// Writes an index. It is a cache: what goes wrong is said on `log` and is no error.
void SaveIndex(const ArchiveContents& contents, const Archives& archives,
               const std::string& index_path, Log& log);

// Returns what LoadIndex() gives. If it gives nothing, reads the headers of all archives (throws as
// ReadArchives() does) and saves an index. `index_path` is empty if no index is kept.
ArchiveContents ReadOrLoadArchives(const Archives& archives, const std::string& index_path,
                                   Log& log);

}  // namespace convoy
