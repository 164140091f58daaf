// dataloader/archive.h - what tars hold, found from their headers alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "dataloader/bytes.h"
#include "dataloader/members.h"

namespace convoy {

enum class ArchiveKind : uint8_t {
  kFlat,    // images, in folders or not
  kNested,  // one tar per class inside of a tar, or several tars of one class each
  kShards,  // WebDataset: an image and its .cls are neighbours; folders are the labels' digits
};

// How an archive was when it was read: another size or time means another archive. Without its
// folder, so that archive and index may move together.
struct ArchiveStamp {
  std::string name;
  int64_t bytes = 0, modified_ns = 0;

  bool operator==(const ArchiveStamp&) const = default;
};
// Throws (kData).
ArchiveStamp StampOf(const std::string& path);

struct ArchiveContents {
  ArchiveKind kind = ArchiveKind::kFlat;
  int64_t ignored = 0;  // files that are neither images nor labels
  MemberTable members;
};

// Reads the headers of every archive. Says on `log` how far it is when it takes long. Throws
// (kData) with archive and byte for anything malformed, and for archives that mix the kinds.
ArchiveContents ReadArchives(const std::vector<std::unique_ptr<FileBytes>>& archives, Log& log);

// The same, from the index kept on disk where it is still right; writes one where it may.
// `index_path` is empty where none is kept.
ArchiveContents ReadOrLoadArchives(const std::vector<std::unique_ptr<FileBytes>>& archives,
                                   const std::string& index_path, Log& log);

}  // namespace convoy
