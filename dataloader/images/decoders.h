// dataloader/images/decoders.h - the decoders of the two file formats.
#pragma once

#include <memory>

#include "dataloader/images/image.h"

namespace convoy {

// Makes a decoder of JPEG files, by libjpeg-turbo. Only the window is transformed: rows above it
// are parsed and dropped, columns beside it are parsed and left out, and rows below it are never
// looked at. The pixels are those of a full decode.
std::unique_ptr<RowDecoder> MakeJpegDecoder(ReadOrientation orientation);

// Makes a decoder of PNG files, by libpng: 16-bit samples are rounded to 8, palettes are looked up,
// alpha is dropped.
std::unique_ptr<RowDecoder> MakePngDecoder();

// Throws (kData) if a header claims more than kMostPixels.
void RequireAtMostPixels(int width, int height);

}  // namespace convoy
