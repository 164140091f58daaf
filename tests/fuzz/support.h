// tests/fuzz/support.h - what the fuzz targets share.
//
// A target gives bytes to a parser. The parser may take them, or throw an Error that blames the
// data (kData, kDisk) in one line; everything else is a finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/host/log.h"

namespace convoy::fuzz {

// Cuts an input into pieces. After its end there are zeros and empty pieces.
class Input {
 public:
  Input(const uint8_t* data, size_t bytes) : rest_(reinterpret_cast<const char*>(data), bytes) {}

  uint8_t Byte();
  // Reads a little-endian number.
  uint16_t Word();
  std::string_view Take(size_t bytes);
  std::string_view Rest() { return Take(rest_.size()); }

 private:
  std::string_view rest_;
};

// Ends the process, as a finding, if `condition` is false.
void Require(bool condition, const char* what);

// Requires that an Error blames the data and is one line without control characters.
void RequireRefusal(const Error& error);

// Runs `parse` and returns whether it took its input.
template <typename Function>
bool Parses(const Function& parse) {
  try {
    parse();
    return true;
  } catch (const Error& error) {
    RequireRefusal(error);
    return false;
  }
}

// Overwrites the file in place. A file that is truncated first is flushed to the disk when it is
// closed, which takes longer than any parser.
void Overwrite(const std::string& path, const void* data, size_t bytes);

// Returns a folder of this process only, which is removed when the process exits.
const std::string& Folder();
// Makes or overwrites a file in it and returns its path. Folders on the way are created.
std::string WriteFile(const std::string& name, std::string_view contents);

// Returns `payload` with the magic word, the version and the checksum of a CheckedReader's file.
std::string Checked(std::string_view magic, uint32_t version, std::string_view payload);

// Gives every block that has the magic word of ustar the checksum of a tar header.
std::string WithTarChecksums(std::string_view tar);

// Returns a log that writes nothing.
Log& QuietLog();

}  // namespace convoy::fuzz
