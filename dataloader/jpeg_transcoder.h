// dataloader/jpeg_transcoder.h - JPEG files written anew from the same coefficients: every pixel
// stays, metadata goes, Huffman tables fit.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace convoy {

// Reused from image to image, by one thread.
class JpegTranscoder {
 public:
  JpegTranscoder();
  ~JpegTranscoder();

  // Overwrites `into` with a baseline file of the same picture. False for a file with anything
  // amiss. The caller has checked how large the image is.
  bool Transcode(const std::vector<uint8_t>& file, std::vector<uint8_t>& into);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
