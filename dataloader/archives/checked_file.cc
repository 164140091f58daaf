#include "dataloader/archives/checked_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace convoy {
namespace {

constexpr size_t kMagicBytes = 8;
constexpr int64_t kDigestBytes = 8;

// Makes the folder of `path` and returns `path`.
const std::string& InItsFolder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (!folder.empty()) MakeFolder(folder);
  return path;
}

}  // namespace

CheckedWriter::CheckedWriter(const std::string& path, std::string_view magic, uint32_t version,
                             const std::string& partial_suffix)
    : file_(InItsFolder(path), partial_suffix) {
  CONVOY_CHECK(magic.size() == kMagicBytes);
  Bytes(magic.data(), magic.size());
  Value(version);
}

void CheckedWriter::Bytes(const void* data, size_t bytes) {
  hasher_.Add(data, bytes);
  file_.Write(data, static_cast<int64_t>(bytes));
}

void CheckedWriter::Text(std::string_view text) {
  Value(static_cast<uint64_t>(text.size()));
  Bytes(text.data(), text.size());
}

void CheckedWriter::Texts(const std::vector<std::string>& texts) {
  Value(static_cast<uint64_t>(texts.size()));
  for (const std::string& text : texts) Text(text);
}

void CheckedWriter::Commit() {
  const uint64_t digest = hasher_.Digest();
  file_.Write(&digest, kDigestBytes);
  file_.Commit();
}

CheckedReader::CheckedReader(const std::string& path, std::string_view magic, uint32_t version)
    : file_(File::OpenForReading(path, ExitCode::kData)) {
  end_ = file_.size() - kDigestBytes;
  if (end_ < static_cast<int64_t>(kMagicBytes + sizeof(version))) Fail("too short");
  std::string found(kMagicBytes, '\0');
  Bytes(found.data(), kMagicBytes);
  if (found != magic) Fail(fmt::format("does not start with {}", magic));
  const auto found_version = Value<uint32_t>();
  if (found_version != version) {
    Fail(fmt::format("version {}, expected {}", found_version, version));
  }
  constexpr int64_t kPiece = 1 << 20;
  std::vector<uint8_t> piece(static_cast<size_t>(std::min(kPiece, end_)));
  Hasher hasher;
  for (int64_t at = 0; at < end_; at += kPiece) {
    const int64_t bytes = std::min(kPiece, end_ - at);
    file_.ReadAt(at, piece.data(), bytes);
    hasher.Add(piece.data(), static_cast<size_t>(bytes));
  }
  uint64_t digest = 0;
  file_.ReadAt(end_, &digest, kDigestBytes);
  if (digest != hasher.Digest()) Fail("wrong checksum");
}

void CheckedReader::Fail(const std::string& problem) const {
  throw Error(ExitCode::kData, fmt::format("{}: {}", file_.path(), problem), "make it again");
}

size_t CheckedReader::Count(size_t element_bytes) {
  const auto count = Value<uint64_t>();
  const auto left = static_cast<uint64_t>(end_ - position_);
  if (count > left / element_bytes) {
    Fail(fmt::format("{} elements of {} bytes in {} bytes", count, element_bytes, left));
  }
  return static_cast<size_t>(count);
}

void CheckedReader::Bytes(void* data, size_t bytes) {
  if (bytes > static_cast<uint64_t>(end_ - position_)) Fail("shorter than its contents");
  if (bytes > 0) file_.ReadAt(position_, data, static_cast<int64_t>(bytes));
  position_ += static_cast<int64_t>(bytes);
}

std::string CheckedReader::Text() {
  std::string text(Count(1), '\0');
  Bytes(text.data(), text.size());
  return text;
}

std::vector<std::string> CheckedReader::Texts() {
  const auto count = Value<uint64_t>();
  std::vector<std::string> texts;
  for (uint64_t i = 0; i < count; ++i) texts.push_back(Text());
  return texts;
}

void WriteLeftOut(CheckedWriter& writer, const LeftOut& left_out) {
  writer.Value(static_cast<uint64_t>(left_out.kinds().size()));
  for (const auto& [kind, entry] : left_out.kinds()) {
    writer.Text(kind);
    writer.Text(entry.first);
    writer.Value(entry.count);
  }
}

LeftOut ReadLeftOut(CheckedReader& reader) {
  constexpr int64_t kMostFiles = int64_t{1} << 40;
  LeftOut left_out;
  const auto count = reader.Value<uint64_t>();
  for (uint64_t i = 0; i < count; ++i) {
    const std::string kind = reader.Text(), first = reader.Text();
    const auto files = reader.Value<int64_t>();
    if (files < 1 || files > kMostFiles) {
      throw Error(ExitCode::kData, fmt::format("{} files of one kind", files), "make it again");
    }
    left_out.Add(kind, first, files);
  }
  return left_out;
}

void CheckedReader::CheckEnd() const {
  if (position_ != end_) Fail(fmt::format("{} bytes more than expected", end_ - position_));
}

}  // namespace convoy
