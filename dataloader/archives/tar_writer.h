// dataloader/archives/tar_writer.h - writes tars: headers of members, padding, whole files.
#pragma once

#include <cstdint>
#include <string>

#include "core/host/files.h"

namespace convoy {

// Returns the header of a regular file: one block, or more if the name does not fit into one (GNU).
// Sizes from 8 GiB on are written in base 256.
std::string TarHeader(const std::string& name, int64_t bytes);

// Returns the zeros that fill the last block of `bytes` bytes of content.
std::string TarPadding(int64_t bytes);

// Returns the blocks that end an archive.
std::string TarEnd();

// A tar that appears whole or not at all. Throws (kDisk).
class TarWriter {
 public:
  explicit TarWriter(const std::string& path) : file_(path) {}

  // Writes header, content and padding.
  void Add(const std::string& name, const void* content, int64_t bytes);
  // Write the parts of archives inside of this one, byte by byte.
  void Append(const std::string& part);
  void Overwrite(int64_t offset, const std::string& part);
  int64_t bytes_written() const { return file_.bytes_written(); }
  // Writes the end mark and gives the file its name.
  void Commit();

 private:
  AtomicFile file_;
};

}  // namespace convoy
