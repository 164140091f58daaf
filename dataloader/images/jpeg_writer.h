// dataloader/images/jpeg_writer.h - pixels, or the coefficients of another file, to JPEG files.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace convoy {

// Reused from image to image, by one thread.
class JpegWriter {
 public:
  JpegWriter();
  ~JpegWriter();

  // `pixels` is uint8 [height, width, channels] with 1 or 3 channels; `quality` is 1 to 100. Chroma
  // has half the resolution, as every usual packer writes it. Overwrites `into`. Throws (kData).
  void Write(const uint8_t* pixels, int width, int height, int channels, int quality,
             std::vector<uint8_t>& into);
  // The same picture from the same coefficients: every pixel stays, metadata goes, Huffman tables
  // fit. Overwrites `into` with a baseline file. False for a file with anything amiss, or with more
  // scans than an image may have. The caller has checked how large the image is.
  bool Transcode(const std::vector<uint8_t>& file, std::vector<uint8_t>& into);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
