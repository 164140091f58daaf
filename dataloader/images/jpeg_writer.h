// dataloader/images/jpeg_writer.h - writes JPEG files from pixels, or from the coefficients of
// another file.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace convoy {

// Writes one image after another, by one thread.
class JpegWriter {
 public:
  JpegWriter();
  ~JpegWriter();

  // Encodes `pixels`, uint8 [height, width, channels] with 1 or 3 channels; `quality` is 1 to 100.
  // Chroma has half the resolution, as in every usual packer. Overwrites `into`. Throws (kData).
  void Write(const uint8_t* pixels, int width, int height, int channels, int quality,
             std::vector<uint8_t>& into);
  // Writes the same picture from the same coefficients: every pixel stays, metadata is dropped,
  // Huffman tables fit the image. Overwrites `into` with a baseline file. Returns false for a file
  // that is damaged in any way, or that has more scans than an image may have. The caller has
  // checked how large the image is.
  bool Transcode(const std::vector<uint8_t>& file, std::vector<uint8_t>& into);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
