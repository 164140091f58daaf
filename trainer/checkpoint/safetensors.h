// trainer/checkpoint/safetensors.h - the file format of weights and training states.
//
// A safetensors file is a little-endian u64, that many bytes of JSON, then the tensors' bytes. The
// JSON gives dtype, shape and place of every tensor, and a map of strings. Convoy adds checksums to
// that map, one per tensor ("xxh3.NAME") and one of the header itself ("xxh3"), so that a flipped
// bit is found before it is used. Readable from Python with the safetensors package; never
// executable.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/host/files.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"

namespace convoy {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  int64_t offset = 0;  // in the file
  int64_t bytes() const { return shape.count() * SizeOf(dtype); }
};

// Writes the tensors one after another, in pieces. The file appears whole or not at all.
class SafetensorsWriter {
 public:
  // `entries` in the order in which their bytes will come; offsets are filled in. Throws (kDisk).
  SafetensorsWriter(const std::string& path, std::vector<SafetensorsEntry> entries,
                    std::map<std::string, std::string> metadata);
  // The next bytes of the current tensor; it ends with its last byte.
  void Write(const void* data, int64_t bytes);
  // Throws (kDefect) when bytes are missing.
  void Commit();

 private:
  std::string Header() const;
  // Notes the checksum of every tensor that is complete, and goes on to the next.
  void EndFullTensors();

  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
  AtomicFile file_;
  size_t current_ = 0;
  int64_t written_ = 0;  // of the current tensor
  Hasher hasher_;
};

class SafetensorsReader {
 public:
  // Reads and checks the header: sizes, places, the length of the file. Throws (kCheckpoint) with
  // what is expected and found.
  explicit SafetensorsReader(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // Null when there is no such tensor.
  const SafetensorsEntry* Find(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // `bytes` bytes of a tensor from byte `begin` of it on. Thread-safe.
  void Read(const SafetensorsEntry& entry, int64_t begin, void* data, int64_t bytes) const;
  // Compares every tensor with its checksum. Throws (kCheckpoint) naming the first that differs.
  // A file of another program has no checksums; nothing is checked then.
  void VerifyChecksums() const;

 private:
  File file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace convoy
