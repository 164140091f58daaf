// dataloader/archives/tar_writer.h - tars: headers of members, how much space members take, whole
// files.
#pragma once

#include <cstdint>
#include <string>

#include "core/host/files.h"

namespace convoy {

// The header of a regular file: one block, or more where the name does not fit one (GNU).
// Sizes from 8 GiB on are written in base 256.
std::string TarHeader(const std::string& name, int64_t bytes);

// Zeros that fill the last block of `bytes` bytes of content.
std::string TarPadding(int64_t bytes);

// What ends an archive.
std::string TarEnd();

// A tar that appears whole or not at all. Throws (kDisk).
class TarWriter {
 public:
  explicit TarWriter(const std::string& path) : file_(path) {}

  // Header, content, padding.
  void Add(const std::string& name, const void* content, int64_t bytes);
  // For archives inside of this one: their parts, byte by byte.
  void Append(const std::string& part);
  void Overwrite(int64_t offset, const std::string& part);
  int64_t bytes_written() const { return file_.bytes_written(); }
  // The end mark, and the file is there.
  void Commit();

 private:
  AtomicFile file_;
};

}  // namespace convoy
