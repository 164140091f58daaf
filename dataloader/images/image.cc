#include "dataloader/images/image.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "dataloader/images/decoders.h"

namespace convoy {
namespace {

bool StartsWith(const uint8_t* data, size_t bytes, std::string_view magic) {
  return bytes >= magic.size() && std::memcmp(data, magic.data(), magic.size()) == 0;
}

constexpr std::string_view kJpegMagic = "\xFF\xD8\xFF";
constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1A\n";

// Pixels that a data set holds plain.
class PlainDecoder final : public RowDecoder {
 public:
  void ReadRows(uint8_t* const* rows, int count) override {
    const auto row_bytes = static_cast<size_t>(info_.width) * static_cast<size_t>(info_.components);
    for (int i = 0; i < count; ++i, ++next_row_) {
      const uint8_t* from = sample_->bytes.data() + row_bytes * static_cast<size_t>(next_row_);
      ConvertRow(from, info_.width, info_.components, pixel_bytes_, rows[i]);
    }
  }

 private:
  void Open(const EncodedSample& sample) override {
    const int64_t expected = int64_t{sample.height} * sample.width * sample.channels;
    CONVOY_CHECK(std::ssize(sample.bytes) == expected, "{} bytes of {}", sample.bytes.size(),
                 expected);
    sample_ = &sample;
    info_ = {.format = ImageFormat::kPlain,
             .width = sample.width,
             .height = sample.height,
             .components = sample.channels};
  }
  void Begin(const Window& window, int channels, int) override {
    pixel_bytes_ = std::min(channels, info_.components) == 1 ? 1 : 4;
    columns_ = info_.width;
    next_row_ = window.y0;
  }

  const EncodedSample* sample_ = nullptr;
  int next_row_ = 0;
};

}  // namespace

void RowDecoder::Start(const Window& window, int channels, int dct_scale) {
  CONVOY_CHECK(dct_scale == 1 || info_.format == ImageFormat::kJpeg, "1 / {} of no JPEG",
               dct_scale);
  const int width = ScaledSide(info_.width, dct_scale);
  const int height = ScaledSide(info_.height, dct_scale);
  CONVOY_CHECK(0 <= window.x0 && window.x0 < window.x1 && window.x1 <= width && 0 <= window.y0 &&
                   window.y0 < window.y1 && window.y1 <= height,
               "[{}, {}) x [{}, {}) of {} x {}", window.x0, window.x1, window.y0, window.y1, width,
               height);
  Begin(window, channels, dct_scale);
}

ImageDecoder::ImageDecoder(ReadOrientation orientation)
    : jpeg_(MakeJpegDecoder(orientation)),
      png_(MakePngDecoder()),
      plain_(std::make_unique<PlainDecoder>()) {}

RowDecoder& ImageDecoder::Open(const EncodedSample& sample) {
  const uint8_t* data = sample.bytes.data();
  const size_t bytes = sample.bytes.size();
  RowDecoder* decoder = nullptr;
  if (sample.height > 0) {
    decoder = plain_.get();
  } else if (StartsWith(data, bytes, kJpegMagic)) {
    decoder = jpeg_.get();
  } else if (StartsWith(data, bytes, kPngMagic)) {
    decoder = png_.get();
  } else {
    throw Error(ExitCode::kData,
                fmt::format("{}, a JPEG or PNG image expected", DescribeContent(data, bytes)));
  }
  decoder->Open(sample);
  return *decoder;
}

void ConvertRow(const uint8_t* from, int width, int channels, int pixel_bytes, uint8_t* to) {
  if (channels == 1) {
    std::memcpy(to, from, static_cast<size_t>(width));
  } else if (pixel_bytes == 1) {
    for (int x = 0; x < width; ++x) {
      to[x] = Luma(from[3 * x], from[3 * x + 1], from[3 * x + 2]);
    }
  } else {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) to[4 * x + c] = from[3 * x + c];
      to[4 * x + 3] = 0;
    }
  }
}

void RequireAtMostPixels(int width, int height) {
  if (int64_t{width} * height <= kMostPixels) return;
  throw Error(ExitCode::kData,
              fmt::format("{} x {} pixels, at most {} expected", width, height, kMostPixels));
}

std::string DescribeContent(const uint8_t* data, size_t bytes) {
  struct Magic {
    std::string_view start;
    const char* name;
  };
  static constexpr Magic kMagics[] = {{kJpegMagic, "a JPEG image"},
                                      {kPngMagic, "a PNG image"},
                                      {"GIF8", "a GIF image"},
                                      {"II*", "a TIFF image"},
                                      {std::string_view("MM\0*", 4), "a TIFF image"},
                                      {"\x1F\x8B", "a gzip file"},
                                      {"PK", "a zip file"},
                                      {"BZh", "a bzip2 file"},
                                      {"\xFD"
                                       "7zXZ",
                                       "an xz file"},
                                      {"\x28\xB5\x2F\xFD", "a Zstandard file"},
                                      {"\x89HDF", "an HDF5 file"},
                                      {"\x93NUMPY", "a NumPy array"},
                                      {"PAR1", "a Parquet file"},
                                      {"%PDF", "a PDF"},
                                      {"<!DOCTYPE html", "an HTML page"},
                                      {"<!doctype html", "an HTML page"},
                                      {"<html", "an HTML page"},
                                      {"version https://git-lfs", "a Git LFS pointer"}};
  if (bytes == 0) return "empty";
  for (const Magic& magic : kMagics) {
    if (StartsWith(data, bytes, magic.start)) return magic.name;
  }
  const bool is_text = std::all_of(data, data + std::min<size_t>(bytes, 64), [](uint8_t byte) {
    return byte == '\n' || byte == '\r' || byte == '\t' || (byte >= 0x20 && byte < 0x7F);
  });
  if (is_text) return "text";
  const auto has = [&](size_t at, std::string_view word) {
    return bytes > at && StartsWith(data + at, bytes - at, word);
  };
  if (has(0, "RIFF") && has(8, "WEBP")) return "a WebP image";
  if (has(4, "ftypavif")) return "an AVIF image";
  if (has(4, "ftyphei") || has(4, "ftypmif1")) return "a HEIF image";
  if (has(0, "BM")) return "a BMP image";
  if (has(257, "ustar")) return "a tar";
  if (std::all_of(data, data + bytes, [](uint8_t byte) { return byte == 0; })) {
    return "only zeros, as an empty tar is";
  }
  return bytes < 4 ? fmt::format("{} bytes", bytes) : std::string("of an unknown kind");
}

}  // namespace convoy
