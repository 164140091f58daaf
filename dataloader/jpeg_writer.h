// dataloader/jpeg_writer.h - pixels to JPEG files.
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

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
