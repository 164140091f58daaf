// dataloader/archives/checked_file.h - Convoy's own small binary files: a magic word, a version,
// values in little-endian order, and an XXH3 checksum of all before it. They are written whole or
// not at all.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/hash.h"
#include "core/host/files.h"
#include "dataloader/left_out.h"

namespace convoy {

static_assert(std::endian::native == std::endian::little);

class CheckedWriter {
 public:
  // `magic` has 8 characters. Makes the folder of `path`. Throws (kDisk), as all calls here do.
  CheckedWriter(const std::string& path, std::string_view magic, uint32_t version,
                const std::string& partial_suffix = ".partial");

  template <typename T>
  void Value(const T& value) {
    static_assert(std::is_arithmetic_v<T>);
    Bytes(&value, sizeof(T));
  }
  // Writes the count, then the elements.
  template <typename T>
  void Array(const std::vector<T>& values) {
    static_assert(std::is_arithmetic_v<T>);
    Value(static_cast<uint64_t>(values.size()));
    Bytes(values.data(), values.size() * sizeof(T));
  }
  void Text(std::string_view text);
  // Writes the count, then the texts.
  void Texts(const std::vector<std::string>& texts);
  void Commit();

 private:
  void Bytes(const void* data, size_t bytes);

  AtomicFile file_;
  Hasher hasher_;
};

class CheckedReader {
 public:
  // Checks the whole file before any value is read. Throws (kData) if it is no such file, of
  // another version, or damaged.
  CheckedReader(const std::string& path, std::string_view magic, uint32_t version);

  template <typename T>
  T Value() {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    Bytes(&value, sizeof(T));
    return value;
  }
  template <typename T>
  std::vector<T> Array() {
    static_assert(std::is_arithmetic_v<T>);
    std::vector<T> values(Count(sizeof(T)));
    Bytes(values.data(), values.size() * sizeof(T));
    return values;
  }
  std::string Text();
  std::vector<std::string> Texts();
  // Throws (kData) if something is left.
  void CheckEnd() const;

 private:
  // Reads a count of elements. Throws (kData) if the rest of the file cannot hold so many.
  size_t Count(size_t element_bytes);
  void Bytes(void* data, size_t bytes);
  [[noreturn]] void Fail(const std::string& problem) const;

  File file_;
  int64_t position_ = 0;
  int64_t end_ = 0;
};

// Write the kinds of `left_out`, and read them back. Throw (kDisk; kData).
void WriteLeftOut(CheckedWriter& writer, const LeftOut& left_out);
LeftOut ReadLeftOut(CheckedReader& reader);

}  // namespace convoy
