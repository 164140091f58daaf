// dataloader/tools/pack_sample.h - images in the form in which packed data sets keep them, made by
// several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "dataloader/crops/crop_renderer.h"
#include "dataloader/images/jpeg_writer.h"
#include "dataloader/packing.h"

namespace convoy {

struct PackedSample {
  std::vector<uint8_t> bytes;
  bool needs_extension = false;  // a JPEG now, and its source's name is not of one
};
inline constexpr const char* kJpegExtension = ".JPEG";

// Throws (kUsage) for options that make no sense.
void CheckPackOptions(const Dataset& dataset, const PackOptions& options);

// Returns sample i of `count` samples that lie evenly spaced over `size`.
int64_t EvenlySpaced(int64_t i, int64_t count, int64_t size);

// Returns the name of a sample inside of its class, in which "_" stands between folders.
std::string NameInClass(const Dataset& dataset, int64_t sample);

// The names of images in shards, without the class and the extension. Images of one class whose
// names differ only in their extensions keep these: "a-jpg" and "a-png".
class ShardStems {
 public:
  // Refers to `dataset`.
  explicit ShardStems(const Dataset& dataset);
  std::string Of(int64_t sample) const;

 private:
  const Dataset& dataset_;
  std::set<uint64_t> shared_;  // hashes of the stems that several images of a class have
};

// One thread's tools.
class SamplePacker {
 public:
  // Throws (kData, kDisk) with a reason that names neither sample nor place.
  PackedSample Pack(const Dataset& dataset, int64_t sample, const PackOptions& options);
  // Returns the file as it is. Throws (kDisk), and (kData) for plain pixels, which are no file.
  PackedSample Copy(const Dataset& dataset, int64_t sample);

 private:
  bool PixelsAreEqual(const EncodedSample& a, const EncodedSample& b);

  EncodedSample sample_, transcoded_;
  CropRenderer renderer_;
  ImageDecoder decoders_[2];
  JpegWriter writer_;
  std::vector<uint8_t> pixels_;
};

// Packs samples on several threads, and gives them out in order.
class PackingPool {
 public:
  // `threads` is at least 1.
  explicit PackingPool(int threads);

  // Calls pack(packer, i) for each i of [0, count), from any thread, and take(i, packed) in the
  // order of i, from the caller's thread. Only a stretch of samples at a time lies in memory.
  void Run(int64_t count, const std::function<PackedSample(SamplePacker&, int64_t i)>& pack,
           const std::function<void(int64_t i, const PackedSample& packed)>& take);

 private:
  std::vector<SamplePacker> packers_;  // one per thread
};

}  // namespace convoy
