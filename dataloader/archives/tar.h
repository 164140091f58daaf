// dataloader/archives/tar.h - reads the headers of a tar: ustar, GNU (long names, sizes in base
// 256), pax (path and size), and the plain old form.
//
// Nothing is ever unpacked. What could lead outside of the archive or lie about its size is
// refused: links, devices, sparse files, absolute names, "..", sizes beyond the end, bad checksums.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dataloader/archives/bytes.h"

namespace convoy {

inline constexpr int64_t kTarBlock = 512;  // bytes

struct TarMember {
  std::string name;    // relative; without empty parts and "."
  int64_t header = 0;  // byte of the header right before the content
  int64_t offset = 0;  // byte of the content, counted in the source
  int64_t bytes = 0;
  bool is_folder = false;
};

class TarReader {
 public:
  // Reads the tar that lies in bytes [begin, end) of `source`, which outlives the reader. `label`
  // names it in messages.
  TarReader(const ByteSource& source, int64_t begin, int64_t end, std::string label);
  explicit TarReader(const ByteSource& source);

  // Reads the header of the next file or folder; returns false at the end of the archive. Throws
  // (kData) with archive, member and byte.
  bool Next(TarMember& member);

 private:
  struct Extended;
  [[noreturn]] void Refuse(int64_t header, const std::string& problem) const;
  std::string ReadPayload(int64_t header, int64_t bytes, int64_t limit);
  void ParsePax(int64_t header, const std::string& records, Extended& extended) const;
  void CheckEnd() const;
  std::string CleanName(int64_t header, const std::string& name) const;

  const ByteSource& source_;
  int64_t position_, end_;
  std::string label_;
};

// Returns whether a block can be the header of a tar member: whether its checksum is right.
bool IsTarHeader(const uint8_t (&block)[kTarBlock]);
// Returns the size that a header states, or nothing if it is malformed or negative.
std::optional<int64_t> TarHeaderSize(const uint8_t (&block)[kTarBlock]);

}  // namespace convoy
