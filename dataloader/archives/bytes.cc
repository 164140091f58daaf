#include "dataloader/archives/bytes.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "core/text.h"

namespace convoy {

void MemoryBytes::ReadAt(int64_t offset, void* data, int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset > size() || bytes > size() - offset) {
    throw Error(ExitCode::kDisk, fmt::format("reading {} at byte {}: {} bytes expected, {} in all",
                                             name_, offset, bytes, size()));
  }
  if (bytes > 0) std::memcpy(data, bytes_.data() + offset, static_cast<size_t>(bytes));
}

struct MaybeGzipFile::Handle {
  gzFile file = nullptr;
  ~Handle() {
    if (file != nullptr) gzclose_r(file);
  }
};

MaybeGzipFile::MaybeGzipFile(const std::string& path)
    : path_(path), handle_(std::make_unique<Handle>()) {
  const File file = File::OpenForReading(path, ExitCode::kData);
  uint8_t magic[2] = {0, 0};
  if (file.size() >= 2) file.ReadAt(0, magic, 2);
  // Deflate packs at most 1032 bytes into one byte.
  const bool is_gzip = magic[0] == 0x1F && magic[1] == 0x8B;
  largest_size_ = file.size() * (is_gzip ? 1032 : 1);
  handle_->file = gzopen(path.c_str(), "rb");
  if (handle_->file == nullptr) {
    throw Error(ExitCode::kData, fmt::format("cannot open {}", path), "check its permissions");
  }
  gzbuffer(handle_->file, 256 << 10);
}

MaybeGzipFile::~MaybeGzipFile() = default;

int64_t MaybeGzipFile::Read(void* data, int64_t bytes) {
  int64_t done = 0;
  while (done < bytes) {
    const auto piece = static_cast<unsigned>(std::min<int64_t>(bytes - done, 1 << 30));
    const int count = gzread(handle_->file, static_cast<char*>(data) + done, piece);
    if (count > 0) {
      done += count;
      continue;
    }
    int code = Z_OK;
    const char* message = gzerror(handle_->file, &code);
    if (count < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: damaged gzip data after {} bytes: {}", path_, done, message),
                  "download the file again");
    }
    break;
  }
  return done;
}

std::vector<uint8_t> ReadMaybeGzip(const std::string& path, int64_t limit) {
  MaybeGzipFile file(path);
  std::vector<uint8_t> bytes;
  constexpr int64_t kPiece = 1 << 20;
  while (true) {
    const size_t before = bytes.size();
    bytes.resize(before + kPiece);
    const int64_t count = file.Read(bytes.data() + before, kPiece);
    bytes.resize(before + static_cast<size_t>(count));
    if (static_cast<int64_t>(bytes.size()) > limit) {
      throw Error(
          ExitCode::kData,
          fmt::format("{} holds more than {}", path, FormatBytes(static_cast<double>(limit))),
          "it is not the file that is expected here");
    }
    if (count < kPiece) return bytes;
  }
}

}  // namespace convoy
