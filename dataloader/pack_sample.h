// dataloader/pack_sample.h - one image, as a packed data set keeps it.
#pragma once

#include <string>
#include <vector>

#include "dataloader/crop_renderer.h"
#include "dataloader/jpeg_transcoder.h"
#include "dataloader/jpeg_writer.h"
#include "dataloader/packing.h"

namespace convoy {

struct PackedSample {
  std::string name;  // inside of its class
  std::vector<uint8_t> bytes;
};

// Throws (kUsage) for options without sense.
void CheckPackOptions(const Dataset& dataset, const PackOptions& options);

// One thread's tools.
class SamplePacker {
 public:
  // Throws (kData, kDisk) with a reason that names neither sample nor place.
  PackedSample Pack(const Dataset& dataset, int64_t sample, const PackOptions& options);
  // The file as it is. Throws (kDisk).
  PackedSample Copy(const Dataset& dataset, int64_t sample);

 private:
  bool PixelsAreEqual(const EncodedSample& a, const EncodedSample& b);

  EncodedSample sample_, transcoded_;
  CropRenderer renderer_;
  ImageDecoder decoders_[2];
  JpegWriter writer_;
  JpegTranscoder transcoder_;
  std::vector<uint8_t> pixels_;
};

}  // namespace convoy
