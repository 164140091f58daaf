// dataloader/archives/index.h - what archives hold, kept on disk, so that a run starts without
// reading their headers again (docs/formats.md has the layout).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/archives/archive.h"

namespace convoy {

// Where the index of the data set at `path` (an archive or a folder of them) lies: in
// `index_folder`, else beside it where that may be written, else in the user's cache folder. Empty
// when there is no such place.
std::string IndexPath(const std::string& path, const std::string& index_folder);

// Nothing when there is no index, or when it is damaged or of other archives (said on `log`).
// Checks the size and time of every archive, and a sample of the headers in them.
std::optional<ArchiveContents> LoadIndex(const std::string& index_path, const Archives& archives,
                                         Log& log);

// A cache: what goes wrong is said on `log` and no error.
void SaveIndex(const ArchiveContents& contents, const Archives& archives,
               const std::string& index_path, Log& log);

// Returns what LoadIndex() gives. If it gives nothing, reads the headers of all archives (throws as
// ReadArchives() does) and saves an index. `index_path` is empty if no index is kept.
ArchiveContents ReadOrLoadArchives(const Archives& archives, const std::string& index_path,
                                   Log& log);

}  // namespace convoy
