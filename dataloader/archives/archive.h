// dataloader/archives/archive.h - what tars hold, found from their headers only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/host/log.h"
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

using Archives = std::vector<std::unique_ptr<FileBytes>>;

// Reads the headers of every archive. Says on `log` how far it is if it takes long. Throws (kData)
// with archive and byte for anything malformed, for archives that mix the kinds, and for one of
// several archives that holds no image.
ArchiveContents ReadArchives(const Archives& archives, Log& log);

}  // namespace convoy
