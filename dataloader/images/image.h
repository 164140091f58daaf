// dataloader/images/image.h - images of any accepted form, decoded row by row; only the rows and
// columns that are needed.
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
  int orientation = 1;  // of EXIF, ignored in decoding; 1 if it was not asked for

  bool is_grey() const { return components == 1; }
  bool is_cmyk() const { return format == ImageFormat::kJpeg && components == 4; }
  bool is_rotated() const { return orientation > 1; }
};

// Returns the length of a side of `pixels` that is decoded at 1 / dct_scale: rounded up.
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

// The rows of an image whose header was read. Used by one thread. Start() and ReadRows() throw
// (kData) for an image that cannot be decoded, with a reason that names neither file nor place: the
// caller knows them. The pixels are the same on every machine (accurate integer DCT, interpolated
// chroma).
class RowDecoder {
 public:
  virtual ~RowDecoder() = default;

  const ImageInfo& info() const { return info_; }
  // Makes ReadRows() give the rows of `window`, from its first. `channels` is 1 or 3. Only JPEGs
  // can be decoded at 1 / dct_scale (1, 2 or 4) of their size, rounded up; the window then counts
  // pixels of that size.
  void Start(const Window& window, int channels, int dct_scale = 1);
  // 1 (grey) if `channels` is 1 or the image is grey; else 4 (R, G, B and one without meaning,
  // because vector units like fours).
  int pixel_bytes() const { return pixel_bytes_; }
  // The columns that each row holds: those of the window, and maybe more on both sides.
  int first_column() const { return first_column_; }
  int columns() const { return columns_; }
  // Writes the next `count` rows, each of columns() * pixel_bytes() bytes.
  virtual void ReadRows(uint8_t* const* rows, int count) = 0;

 protected:
  ImageInfo info_;
  int pixel_bytes_ = 0, first_column_ = 0, columns_ = 0;

 private:
  friend class ImageDecoder;
  // Reads the header of another image and fills info_.
  virtual void Open(const EncodedSample& sample) = 0;
  // Does the work of Start() and sets the three numbers above.
  virtual void Begin(const Window& window, int channels, int dct_scale) = 0;
};

// Keeps a decoder of each form, and their memory, from image to image. Used by one thread.
class ImageDecoder {
 public:
  explicit ImageDecoder(ReadOrientation orientation = ReadOrientation::kNo);

  // Reads the header. `sample` stays the caller's, and unchanged until the next Open(). The result
  // is valid until then. Throws (kData) as RowDecoder does.
  RowDecoder& Open(const EncodedSample& sample);

 private:
  std::unique_ptr<RowDecoder> jpeg_, png_, plain_;
};

// Says what the bytes are, for messages: "a PNG image", "a GIF image", "text", "empty".
std::string DescribeContent(const uint8_t* data, size_t bytes);

// Returns the luma of R, G, B as JPEG defines it.
constexpr uint8_t Luma(int r, int g, int b) {
  return static_cast<uint8_t>((19595 * r + 38470 * g + 7471 * b + 32768) >> 16);
}

// Writes a row of plain grey or R, G, B pixels as a RowDecoder gives it. `channels` is 1 or 3;
// `pixel_bytes` is 1 or 4, and 1 if `channels` is.
void ConvertRow(const uint8_t* from, int width, int channels, int pixel_bytes, uint8_t* to);

}  // namespace convoy
