#include "trainer/checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include <nlohmann/json.hpp>

#include "core/device/memory.h"

namespace convoy {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little);

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // as the format's own readers allow
constexpr int64_t kPieceBytes = 8 << 20;

struct TypeName {
  DType dtype;
  const char* name;
};
constexpr TypeName kTypeNames[] = {{DType::kFloat32, "F32"}, {DType::kBFloat16, "BF16"},
                                   {DType::kFloat64, "F64"}, {DType::kUInt8, "U8"},
                                   {DType::kInt32, "I32"},   {DType::kInt64, "I64"}};

constexpr const char* kHeaderChecksumKey = "xxh3";
std::string ChecksumKey(const std::string& name) { return "xxh3." + name; }
std::string ChecksumText(uint64_t checksum) { return fmt::format("{:016x}", checksum); }

// The header's own checksum is taken with zeros in its place.
std::string HeaderChecksum(std::string header, const std::string& checksum) {
  const std::string member = fmt::format("\"{}\":\"", kHeaderChecksumKey);
  const size_t place = header.find(member + checksum);
  if (place == std::string::npos) return {};
  const std::string zeros = ChecksumText(0);
  header.replace(place + member.size(), zeros.size(), zeros);
  return ChecksumText(Hash64(header));
}

[[noreturn]] void ThrowBad(const std::string& path, const std::string& what) {
  throw Error(ExitCode::kCheckpoint, fmt::format("{}: {}", path, what));
}

SafetensorsEntry ParseEntry(const std::string& path, const std::string& name, const json& value,
                            int64_t data_begin, int64_t data_bytes) {
  SafetensorsEntry entry{.name = name};
  const std::string dtype = value.at("dtype").get<std::string>();
  const auto type = std::find_if(std::begin(kTypeNames), std::end(kTypeNames),
                                 [&](const TypeName& known) { return dtype == known.name; });
  if (type == std::end(kTypeNames)) {
    ThrowBad(path, fmt::format("tensor {} has type {}, which is not supported", name, dtype));
  }
  entry.dtype = type->dtype;
  const json& sizes = value.at("shape");
  if (sizes.size() > static_cast<size_t>(Shape::kMaxRank)) {
    ThrowBad(path, fmt::format("tensor {} has {} dimensions", name, sizes.size()));
  }
  // Checked before it is multiplied: no product may exceed what the file holds.
  int64_t count = 1;
  for (auto size = sizes.rbegin(); size != sizes.rend(); ++size) {
    const auto extent = size->get<int64_t>();
    if (extent < 0 || (extent > 0 && count > data_bytes / extent)) {
      ThrowBad(path, fmt::format("tensor {} is larger than the file", name));
    }
    count *= extent;
    entry.shape = entry.shape.Prepend(extent);
  }
  const auto begin = value.at("data_offsets").at(0).get<int64_t>();
  const auto end = value.at("data_offsets").at(1).get<int64_t>();
  if (begin < 0 || end < begin || end > data_bytes || end - begin != entry.bytes()) {
    ThrowBad(path, fmt::format("tensor {}: expected {} bytes, found places {} to {} of {}", name,
                               entry.bytes(), begin, end, data_bytes));
  }
  entry.offset = data_begin + begin;
  return entry;
}

// How many bytes of tensors a header speaks of. Throws json::exception.
int64_t ClaimedBytes(const json& header) {
  int64_t claimed = 0;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    claimed = std::max(claimed, value.at("data_offsets").at(1).get<int64_t>());
  }
  return claimed;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<SafetensorsEntry> entries,
                                     std::map<std::string, std::string> metadata)
    : entries_(std::move(entries)), metadata_(std::move(metadata)), file_(path) {
  for (const SafetensorsEntry& entry : entries_) {
    metadata_[ChecksumKey(entry.name)] = ChecksumText(0);  // same length as the real one
  }
  metadata_[kHeaderChecksumKey] = ChecksumText(0);
  const std::string header = Header();
  const auto bytes = static_cast<uint64_t>(header.size());
  file_.Write(&bytes, sizeof(bytes));
  file_.Write(header.data(), static_cast<int64_t>(header.size()));
  EndFullTensors();  // those without elements at the front
}

std::string SafetensorsWriter::Header() const {
  json header;
  header["__metadata__"] = metadata_;
  int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries_) {
    json sizes = json::array();
    for (int d = 0; d < entry.shape.rank(); ++d) sizes.push_back(entry.shape[d]);
    const auto type =
        std::find_if(std::begin(kTypeNames), std::end(kTypeNames),
                     [&](const TypeName& known) { return known.dtype == entry.dtype; });
    header[entry.name] = {{"dtype", type->name},
                          {"shape", sizes},
                          {"data_offsets", {offset, offset + entry.bytes()}}};
    offset += entry.bytes();
  }
  std::string text = header.dump();
  // The tensors begin at a multiple of 64 bytes; the format allows blanks after the header.
  const auto size = static_cast<int64_t>(text.size() + sizeof(uint64_t));
  text.append(static_cast<size_t>(RoundUp(size, kAlignmentBytes) - size), ' ');
  return text;
}

void SafetensorsWriter::Write(const void* data, int64_t bytes) {
  if (bytes == 0) return;
  CONVOY_CHECK(current_ < entries_.size() && written_ + bytes <= entries_[current_].bytes(),
               "{} bytes too many", bytes);
  file_.Write(data, bytes);
  hasher_.Add(data, static_cast<size_t>(bytes));
  written_ += bytes;
  EndFullTensors();
}

void SafetensorsWriter::EndFullTensors() {
  while (current_ < entries_.size() && written_ == entries_[current_].bytes()) {
    metadata_[ChecksumKey(entries_[current_].name)] = ChecksumText(hasher_.Digest());
    hasher_ = Hasher();
    ++current_;
    written_ = 0;
  }
}

void SafetensorsWriter::Commit() {
  CONVOY_CHECK(current_ == entries_.size(), "tensor {} is missing", entries_[current_].name);
  metadata_[kHeaderChecksumKey] = HeaderChecksum(Header(), ChecksumText(0));
  const std::string header = Header();
  file_.WriteAt(sizeof(uint64_t), header.data(), static_cast<int64_t>(header.size()));
  file_.Commit();
}

SafetensorsReader::SafetensorsReader(const std::string& path)
    : file_(File::OpenForReading(path, ExitCode::kCheckpoint)) {
  uint64_t header_bytes = 0;
  if (file_.size() < static_cast<int64_t>(sizeof(header_bytes))) {
    ThrowBad(path, fmt::format("expected a safetensors file, found {} bytes", file_.size()));
  }
  file_.ReadAt(0, &header_bytes, sizeof(header_bytes));
  const int64_t available = file_.size() - static_cast<int64_t>(sizeof(header_bytes));
  if (header_bytes > static_cast<uint64_t>(std::min(available, kMaxHeaderBytes))) {
    ThrowBad(path, fmt::format("its header claims {} bytes of {}: not a safetensors file, or torn",
                               header_bytes, file_.size()));
  }
  std::string text(header_bytes, '\0');
  file_.ReadAt(sizeof(header_bytes), text.data(), static_cast<int64_t>(text.size()));
  const int64_t data_begin = static_cast<int64_t>(sizeof(header_bytes) + header_bytes);
  const int64_t data_bytes = file_.size() - data_begin;
  try {
    const json header = json::parse(text);
    if (const int64_t claimed = ClaimedBytes(header); claimed > data_bytes) {
      ThrowBad(path, fmt::format("expected {} bytes, found {}: it is torn",
                                 static_cast<uint64_t>(data_begin) + static_cast<uint64_t>(claimed),
                                 file_.size()));
    }
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        metadata_ = value.get<std::map<std::string, std::string>>();
      } else {
        entries_.push_back(ParseEntry(path, name, value, data_begin, data_bytes));
      }
    }
  } catch (const json::exception& exception) {
    ThrowBad(path,
             fmt::format("its header is not that of a safetensors file ({})", exception.what()));
  }
  // A file with checksums of its tensors has one of its header too.
  const auto checksum = metadata_.find(kHeaderChecksumKey);
  const bool has_checksums =
      std::any_of(metadata_.begin(), metadata_.end(),
                  [](const auto& member) { return member.first.starts_with(ChecksumKey("")); });
  if (checksum != metadata_.end() || has_checksums) {
    if (checksum == metadata_.end() || HeaderChecksum(text, checksum->second) != checksum->second) {
      ThrowBad(path, "the checksum of its header is wrong");
    }
  }
  std::sort(entries_.begin(), entries_.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return a.offset != b.offset ? a.offset < b.offset : a.bytes() < b.bytes();
            });
  int64_t end = data_begin;
  for (const SafetensorsEntry& entry : entries_) {
    if (entry.offset != end) {
      ThrowBad(path, fmt::format("tensor {} begins at byte {}, expected {}", entry.name,
                                 entry.offset, end));
    }
    end += entry.bytes();
  }
  if (end != file_.size()) {
    ThrowBad(path, fmt::format("expected {} bytes, found {}", end, file_.size()));
  }
}

const SafetensorsEntry* SafetensorsReader::Find(const std::string& name) const {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(),
                   [&](const SafetensorsEntry& entry) { return entry.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

void SafetensorsReader::Read(const SafetensorsEntry& entry, int64_t begin, void* data,
                             int64_t bytes) const {
  CONVOY_CHECK(begin >= 0 && bytes >= 0 && begin + bytes <= entry.bytes());
  file_.ReadAt(entry.offset + begin, data, bytes);
}

void SafetensorsReader::VerifyChecksums() const {
  std::vector<char> piece(static_cast<size_t>(kPieceBytes));
  for (const SafetensorsEntry& entry : entries_) {
    const auto expected = metadata_.find(ChecksumKey(entry.name));
    if (expected == metadata_.end()) continue;
    Hasher hasher;
    for (int64_t begin = 0; begin < entry.bytes(); begin += kPieceBytes) {
      const int64_t bytes = std::min(kPieceBytes, entry.bytes() - begin);
      Read(entry, begin, piece.data(), bytes);
      hasher.Add(piece.data(), static_cast<size_t>(bytes));
    }
    if (ChecksumText(hasher.Digest()) != expected->second) {
      ThrowBad(path(),
               fmt::format("tensor {} at byte {}: its checksum is {}, expected {}", entry.name,
                           entry.offset, ChecksumText(hasher.Digest()), expected->second));
    }
  }
}

}  // namespace convoy
