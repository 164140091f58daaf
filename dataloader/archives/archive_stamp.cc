#include "dataloader/archives/archive_stamp.h"

#include <sys/stat.h>

#include <filesystem>

#include "core/error.h"

namespace convoy {

ArchiveStamp StampOf(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    throw Error(ExitCode::kData, fmt::format("cannot examine {}", path), "check the path");
  }
  return {.name = std::filesystem::path(path).filename().string(),
          .bytes = status.st_size,
          .modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

void WriteStamps(CheckedWriter& writer, const Archives& archives) {
  writer.Value(static_cast<uint64_t>(archives.size()));
  for (const auto& archive : archives) {
    const ArchiveStamp stamp = StampOf(archive->name());
    writer.Text(stamp.name);
    writer.Value(stamp.bytes);
    writer.Value(stamp.modified_ns);
  }
}

std::string DifferenceOfStamps(CheckedReader& reader, const Archives& archives) {
  if (reader.Value<uint64_t>() != archives.size()) return "other archives";
  for (const auto& archive : archives) {
    ArchiveStamp stamp;
    stamp.name = reader.Text();
    stamp.bytes = reader.Value<int64_t>();
    stamp.modified_ns = reader.Value<int64_t>();
    if (stamp != StampOf(archive->name())) return archive->name() + " has changed";
  }
  return {};
}

}  // namespace convoy
