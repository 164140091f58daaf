#include "dataloader/archives/index.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/checked_file.h"
#include "dataloader/archives/tar.h"

namespace convoy {
namespace {

constexpr std::string_view kMagic = "CONVOYIX";
constexpr uint32_t kVersion = 2;
constexpr std::string_view kSuffix = ".convoy-index";
constexpr int64_t kSampledHeaders = 16;
constexpr int64_t kSampledNames = 1024;

// An index of other archives, or one that contradicts itself.
struct Outdated {
  std::string reason;
};

void WriteStamps(CheckedWriter& writer, const Archives& archives) {
  writer.Value(static_cast<uint64_t>(archives.size()));
  for (const auto& archive : archives) {
    const FileStamp stamp = StampOf(archive->name());
    writer.Text(stamp.name);
    writer.Value(stamp.bytes);
    writer.Value(stamp.modified_ns);
  }
}

void CheckStamps(CheckedReader& reader, const Archives& archives) {
  if (reader.Value<uint64_t>() != archives.size()) throw Outdated{"other archives"};
  for (const auto& archive : archives) {
    FileStamp stamp;
    stamp.name = reader.Text();
    stamp.bytes = reader.Value<int64_t>();
    stamp.modified_ns = reader.Value<int64_t>();
    if (stamp != StampOf(archive->name())) throw Outdated{archive->name() + " has changed"};
  }
}

void WriteContents(CheckedWriter& writer, const ArchiveContents& contents) {
  const MemberTable& members = contents.members;
  writer.Value(static_cast<uint8_t>(contents.kind));
  WriteLeftOut(writer, contents.left_out);
  writer.Texts(members.folders);
  writer.Array(members.folder_begin);
  writer.Array(members.offset);
  writer.Array(members.bytes);
  writer.Array(members.archive);
  writer.Array(members.name_begin);
  writer.Text(members.names);
}

ArchiveContents ReadContents(CheckedReader& reader) {
  ArchiveContents contents;
  const auto kind = reader.Value<uint8_t>();
  if (kind > static_cast<uint8_t>(ArchiveKind::kShards)) throw Outdated{"unknown kind"};
  contents.kind = static_cast<ArchiveKind>(kind);
  contents.left_out = ReadLeftOut(reader);
  MemberTable& members = contents.members;
  members.folders = reader.Texts();
  members.folder_begin = reader.Array<uint32_t>();
  members.offset = reader.Array<int64_t>();
  members.bytes = reader.Array<uint32_t>();
  members.archive = reader.Array<uint16_t>();
  members.name_begin = reader.Array<uint32_t>();
  members.names = reader.Text();
  reader.CheckEnd();
  if (!members.IsConsistent()) throw Outdated{"contradicts itself"};
  return contents;
}

// Throws (Outdated) unless every member lies in its archive and some of them still follow a header
// of the stated size.
void CheckAgainstArchives(const MemberTable& members, const Archives& archives) {
  for (size_t i = 0; i < members.offset.size(); ++i) {
    if (members.archive[i] >= archives.size() || members.offset[i] < kTarBlock ||
        members.offset[i] > archives[members.archive[i]]->size() - members.bytes[i]) {
      throw Outdated{"has a member outside of its archive"};
    }
  }
  const int64_t sampled = std::min(kSampledHeaders, members.size());
  for (int64_t k = 0; k < sampled; ++k) {
    const auto i = static_cast<size_t>(k * members.size() / sampled);
    uint8_t block[kTarBlock];
    archives[members.archive[i]]->ReadAt(members.offset[i] - kTarBlock, block, kTarBlock);
    if (!IsTarHeader(block)) throw Outdated{"a header is no longer where it was"};
    // The header has 0 if a pax record gives the size.
    const std::optional<int64_t> bytes = TarHeaderSize(block);
    if (!bytes || (*bytes != members.bytes[i] && *bytes != 0)) {
      throw Outdated{"a member has another size"};
    }
  }
}

// Returns a hash of the number of samples, and of the names and places of some of them. It leaves
// out folders, since a data set has several paths.
uint64_t IdentityOf(const Dataset& dataset) {
  Hasher hasher;
  const int64_t size = dataset.size(), count = std::min(size, kSampledNames);
  hasher.Add(&size, sizeof(size));
  for (int64_t k = 0; k < count; ++k) {
    const int64_t sample = k * size / count;
    const std::string location = dataset.Location(sample);
    const std::string text =
        fmt::format("{}\n{}\n", dataset.Name(sample), location.substr(location.rfind('/') + 1));
    hasher.Add(text.data(), text.size());
  }
  return hasher.Digest();
}

}  // namespace

FileStamp StampOf(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    throw Error(ExitCode::kData, fmt::format("cannot examine {}", path), "check the path");
  }
  return {.name = std::filesystem::path(path).filename().string(),
          .bytes = status.st_size,
          .modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

std::string CompanionPath(const std::string& location, const std::string& index_folder,
                          const Dataset& dataset, const std::string& ending) {
  // The split is a part of the name.
  std::string path = IndexPath(location, index_folder);
  if (path.empty()) return {};
  path.resize(path.size() - kSuffix.size());
  std::replace(path.begin() + static_cast<std::ptrdiff_t>(path.rfind('/') + 1), path.end(), ':',
               '-');
  return fmt::format("{}.{:016x}{}", path, IdentityOf(dataset), ending);
}

std::string IndexPath(const std::string& path, const std::string& index_folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  if (error) return {};
  // In a folder for many archives the whole path tells them apart.
  const std::string unique_name = fmt::format("{}-{:016x}{}", canonical.filename().string(),
                                              Hash64(canonical.string()), kSuffix);
  if (!index_folder.empty()) return (fs::path(index_folder) / unique_name).string();
  if (access(canonical.parent_path().c_str(), W_OK) == 0) {
    return fmt::format("{}{}", canonical.string(), kSuffix);
  }
  const std::string cache = CacheFolder();
  return cache.empty() ? cache : (fs::path(cache) / unique_name).string();
}

std::optional<ArchiveContents> LoadIndex(const std::string& index_path, const Archives& archives,
                                         Log& log) {
  if (!PathExists(index_path)) return std::nullopt;
  try {
    CheckedReader reader(index_path, kMagic, kVersion);
    CheckStamps(reader, archives);
    ArchiveContents contents = ReadContents(reader);
    CheckAgainstArchives(contents.members, archives);
    return contents;
  } catch (const Outdated& outdated) {
    log.Info("index {} is made again: {}", index_path, outdated.reason);
  } catch (const Error& error) {
    log.Warning("index {} is made again: {}", index_path, error.message());
  }
  return std::nullopt;
}

void SaveIndex(const ArchiveContents& contents, const Archives& archives,
               const std::string& index_path, Log& log) {
  if (index_path.empty()) return;
  try {
    CheckedWriter writer(index_path, kMagic, kVersion);
    WriteStamps(writer, archives);
    WriteContents(writer, contents);
    writer.Commit();
  } catch (const Error& error) {
    log.Debug("the index is not kept: {}", error.message());
  }
}

ArchiveContents ReadOrLoadArchives(const Archives& archives, const std::string& index_path,
                                   Log& log) {
  if (std::optional<ArchiveContents> loaded = LoadIndex(index_path, archives, log)) {
    return *std::move(loaded);
  }
  ArchiveContents contents = ReadArchives(archives, log);
  SaveIndex(contents, archives, index_path, log);
  return contents;
}

}  // namespace convoy
