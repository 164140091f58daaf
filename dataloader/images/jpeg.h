// dataloader/images/jpeg.h - JPEG files, decoded by libjpeg-turbo.
//
// Only the window is transformed: rows above it are parsed and dropped, columns beside it are
// parsed and left out, rows below it are never looked at. The pixels are those of a full decode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dataloader/images/image.h"

namespace convoy {

// The functions are those of ImageDecoder.
class JpegDecoder {
 public:
  explicit JpegDecoder(ReadOrientation orientation);
  ~JpegDecoder();

  ImageInfo Open(const uint8_t* data, size_t bytes);
  void Start(const Window& window, int channels, int dct_scale);
  int pixel_bytes() const;
  int first_column() const;
  int columns() const;
  void ReadRows(uint8_t* const* rows, int count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace convoy
