// dataloader/images/png.h - PNG files, decoded by libpng: 16-bit samples are rounded to 8, palettes
// are looked up, alpha is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dataloader/images/image.h"

namespace convoy {

// The functions are those of ImageDecoder.
class PngDecoder {
 public:
  PngDecoder();
  ~PngDecoder();

  ImageInfo Open(const uint8_t* data, size_t bytes);
  void Start(const Window& window, int channels);
  int pixel_bytes() const;
  int columns() const;
  void ReadRows(uint8_t* const* rows, int count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
