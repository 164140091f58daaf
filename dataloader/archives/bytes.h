// dataloader/archives/bytes.h - bytes that can be read at any place, and files that may be
// compressed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/host/files.h"

namespace convoy {

// Bytes that can be read at any place. Thread-safe. Offsets and sizes are in bytes.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Returns the path, for messages.
  virtual const std::string& name() const = 0;
  virtual int64_t size() const = 0;
  // Reads exactly `bytes` bytes. Throws (kDisk).
  virtual void ReadAt(int64_t offset, void* data, int64_t bytes) const = 0;
};

class FileBytes final : public ByteSource {
 public:
  // Throws (kData) if the file cannot be opened.
  explicit FileBytes(const std::string& path)
      : file_(File::OpenForReading(path, ExitCode::kData)) {}

  const std::string& name() const override { return file_.path(); }
  int64_t size() const override { return file_.size(); }
  void ReadAt(int64_t offset, void* data, int64_t bytes) const override {
    file_.ReadAt(offset, data, bytes);
  }
  void WillReadAt(int64_t offset, int64_t bytes) const { file_.WillReadAt(offset, bytes); }

 private:
  File file_;
};

class MemoryBytes final : public ByteSource {
 public:
  MemoryBytes(std::string name, std::vector<uint8_t> bytes)
      : name_(std::move(name)), bytes_(std::move(bytes)) {}

  const std::string& name() const override { return name_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  void ReadAt(int64_t offset, void* data, int64_t bytes) const override;

 private:
  std::string name_;
  std::vector<uint8_t> bytes_;
};

// A file that is read from its start to its end, and decompressed if it is a gzip file.
class MaybeGzipFile {
 public:
  // Throws (kData).
  explicit MaybeGzipFile(const std::string& path);
  ~MaybeGzipFile();
  MaybeGzipFile(const MaybeGzipFile&) = delete;
  MaybeGzipFile& operator=(const MaybeGzipFile&) = delete;

  // Reads up to `bytes` bytes and returns how many: fewer only at the end of the file. Throws
  // (kData) for damaged gzip data.
  int64_t Read(void* data, int64_t bytes);
  // Returns the most bytes that can come out of the file, whatever its headers claim.
  int64_t LargestSize() const { return largest_size_; }

 private:
  struct Handle;
  std::string path_;
  int64_t largest_size_ = 0;
  std::unique_ptr<Handle> handle_;
};

// Returns all of `path`, decompressed if it is a gzip file. Throws (kData) if that is more than
// `limit` bytes.
std::vector<uint8_t> ReadMaybeGzip(const std::string& path, int64_t limit);

}  // namespace convoy
