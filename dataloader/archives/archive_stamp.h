// dataloader/archives/archive_stamp.h - whether archives are still those that a file on disk tells
// of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataloader/archives/bytes.h"
#include "dataloader/archives/checked_file.h"

namespace convoy {

// How an archive was when it was read: another size or time means another archive. Without its
// folder, so that archive and index may move together.
struct ArchiveStamp {
  std::string name;
  int64_t bytes = 0, modified_ns = 0;

  bool operator==(const ArchiveStamp&) const = default;
};
// Throws (kData).
ArchiveStamp StampOf(const std::string& path);

using Archives = std::vector<std::unique_ptr<FileBytes>>;

// Throws (kData, kDisk).
void WriteStamps(CheckedWriter& writer, const Archives& archives);
// What differs; empty where all of them are as they were. Throws (kData).
std::string DifferenceOfStamps(CheckedReader& reader, const Archives& archives);

}  // namespace convoy
