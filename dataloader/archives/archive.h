// dataloader/archives/archive.h - what tars hold, found from their headers alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/archives/archive_stamp.h"
#include "dataloader/archives/bytes.h"
#include "dataloader/archives/members.h"
#include "dataloader/left_out.h"

namespace convoy {

enum class ArchiveKind : uint8_t {
  kFlat,    // images, in folders or not
  kNested,  // one tar per class inside of a tar, or several tars of one class each
  kShards,  // WebDataset: an image and its .cls are neighbours; folders are the labels' digits
};

struct ArchiveContents {
  ArchiveKind kind = ArchiveKind::kFlat;
  LeftOut left_out;  // files that are neither images nor labels
  MemberTable members;
};

struct WalkOptions {
  // Where it is kept, now and then, what was found so far, so that a walk that was interrupted goes
  // on from there. Empty: nowhere.
  std::string unfinished_path;
  double save_every_s = 20;
};

// Reads the headers of every archive. Says on `log` how far it is when it takes long. Throws
// (kData) with archive and byte for anything malformed, for archives that mix the kinds, and for
// one of several that holds no image.
ArchiveContents ReadArchives(const Archives& archives, Log& log, const WalkOptions& options = {});

// The same, from the index kept on disk where it is still right; writes one where it may.
// `index_path` is empty where none is kept.
ArchiveContents ReadOrLoadArchives(const Archives& archives, const std::string& index_path,
                                   Log& log);

}  // namespace convoy
