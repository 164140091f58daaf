// dataloader/images/image.h - images of any accepted form, decoded row by row and only where
// needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dataloader/dataset.h"

namespace convoy {

enum class ImageFormat : uint8_t { kJpeg, kPng, kPlain };

struct ImageInfo {
  ImageFormat format = ImageFormat::kJpeg;
  int width = 0, height = 0;
  int components = 3;  // stored: 1 grey; 3; 4 CMYK or colour with alpha
  bool progressive = false;
  int orientation = 1;  // of EXIF, ignored in decoding; 1 where nobody asked for it

  bool is_grey() const { return components == 1; }
  bool is_cmyk() const { return format == ImageFormat::kJpeg && components == 4; }
  bool is_rotated() const { return orientation > 1; }
};

// Pixels of a side of `pixels`, decoded at 1 / dct_scale: rounded up.
constexpr int ScaledSide(int pixels, int dct_scale) { return (pixels + dct_scale - 1) / dct_scale; }

// Columns [x0, x1) of rows [y0, y1).
struct Window {
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

// What a header may claim. Checked before anything large is allocated.
inline constexpr int64_t kMostPixels = 64'000'000;
inline constexpr int kLongestSide = 65535;
inline constexpr int kMostScans = 100;

enum class ReadOrientation { kNo, kYes };

// Reused from image to image, by one thread. All of its functions throw (kData) for an image that
// cannot be decoded, with a reason that names neither file nor place: the caller knows them. The
// same pixels on every machine: accurate integer DCT, interpolated chroma.
class ImageDecoder {
 public:
  explicit ImageDecoder(ReadOrientation orientation = ReadOrientation::kNo);
  ~ImageDecoder();

  // Reads the header. `sample` stays the caller's and unchanged until the next Open().
  ImageInfo Open(const EncodedSample& sample);
  // From now on ReadRows() gives the rows of `window`, from its first. JPEGs alone can be decoded
  // at 1 / dct_scale (1, 2 or 4) of their size, rounded up, which the window then counts in.
  void Start(const Window& window, int channels, int dct_scale = 1);
  // 1 (grey) where `channels` is 1 or the image is grey; else 4 (R, G, B and one without meaning,
  // because vector units like fours).
  int pixel_bytes() const;
  // Columns that each row holds: the window's, and maybe more on both sides.
  int first_column() const;
  int columns() const;
  // The next `count` rows, each of columns() * pixel_bytes() bytes.
  void ReadRows(uint8_t* const* rows, int count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "a PNG image", "a GIF image", "text", "empty": for messages.
std::string DescribeContent(const uint8_t* data, size_t bytes);

// Luma of R, G, B as JPEG defines it.
constexpr uint8_t Luma(int r, int g, int b) {
  return static_cast<uint8_t>((19595 * r + 38470 * g + 7471 * b + 32768) >> 16);
}

// A row of plain grey or R, G, B pixels as ImageDecoder gives it: `channels` is 1 or 3 and
// `pixel_bytes` 1 or 4, and 1 where `channels` is.
void ConvertRow(const uint8_t* from, int width, int channels, int pixel_bytes, uint8_t* to);

}  // namespace convoy
