#include "dataloader/images/image.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "dataloader/images/jpeg.h"
#include "dataloader/images/png.h"

namespace convoy {
namespace {

bool StartsWith(const uint8_t* data, size_t bytes, std::string_view magic) {
  return bytes >= magic.size() && std::memcmp(data, magic.data(), magic.size()) == 0;
}

constexpr std::string_view kJpegMagic = "\xFF\xD8\xFF";
constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1A\n";

}  // namespace

struct ImageDecoder::State {
  explicit State(ReadOrientation orientation) : jpeg(orientation) {}

  ImageInfo info;
  JpegDecoder jpeg;
  PngDecoder png;
  // Plain pixels:
  const EncodedSample* plain = nullptr;
  int plain_bytes = 0, next_row = 0;
};

ImageDecoder::ImageDecoder(ReadOrientation orientation)
    : state_(std::make_unique<State>(orientation)) {}
ImageDecoder::~ImageDecoder() = default;

ImageInfo ImageDecoder::Open(const EncodedSample& sample) {
  State& state = *state_;
  const uint8_t* data = sample.bytes.data();
  const size_t bytes = sample.bytes.size();
  if (sample.height > 0) {
    const int64_t expected = int64_t{sample.height} * sample.width * sample.channels;
    CONVOY_CHECK(static_cast<int64_t>(bytes) == expected, "{} bytes of {}", bytes, expected);
    state.plain = &sample;
    state.info = {.format = ImageFormat::kPlain,
                  .width = sample.width,
                  .height = sample.height,
                  .components = sample.channels};
  } else if (StartsWith(data, bytes, kJpegMagic)) {
    state.info = state.jpeg.Open(data, bytes);
  } else if (StartsWith(data, bytes, kPngMagic)) {
    state.info = state.png.Open(data, bytes);
  } else {
    throw Error(ExitCode::kData,
                fmt::format("{}, a JPEG or PNG image expected", DescribeContent(data, bytes)));
  }
  return state.info;
}

void ImageDecoder::Start(const Window& window, int channels, int dct_scale) {
  State& state = *state_;
  CONVOY_CHECK(dct_scale == 1 || state.info.format == ImageFormat::kJpeg, "1 / {} of no JPEG",
               dct_scale);
  const int width = ScaledSide(state.info.width, dct_scale);
  const int height = ScaledSide(state.info.height, dct_scale);
  CONVOY_CHECK(0 <= window.x0 && window.x0 < window.x1 && window.x1 <= width && 0 <= window.y0 &&
                   window.y0 < window.y1 && window.y1 <= height,
               "[{}, {}) x [{}, {}) of {} x {}", window.x0, window.x1, window.y0, window.y1, width,
               height);
  switch (state.info.format) {
    case ImageFormat::kJpeg:
      return state.jpeg.Start(window, channels, dct_scale);
    case ImageFormat::kPng:
      return state.png.Start(window, channels);
    case ImageFormat::kPlain:
      state.plain_bytes = std::min(channels, state.info.components) == 1 ? 1 : 4;
      state.next_row = window.y0;
  }
}

int ImageDecoder::pixel_bytes() const {
  switch (state_->info.format) {
    case ImageFormat::kJpeg:
      return state_->jpeg.pixel_bytes();
    case ImageFormat::kPng:
      return state_->png.pixel_bytes();
    case ImageFormat::kPlain:
      break;
  }
  return state_->plain_bytes;
}

int ImageDecoder::first_column() const {
  return state_->info.format == ImageFormat::kJpeg ? state_->jpeg.first_column() : 0;
}

int ImageDecoder::columns() const {
  return state_->info.format == ImageFormat::kJpeg ? state_->jpeg.columns() : state_->info.width;
}

void ImageDecoder::ReadRows(uint8_t* const* rows, int count) {
  State& state = *state_;
  if (state.info.format == ImageFormat::kJpeg) return state.jpeg.ReadRows(rows, count);
  if (state.info.format == ImageFormat::kPng) return state.png.ReadRows(rows, count);
  const size_t row_bytes =
      static_cast<size_t>(state.info.width) * static_cast<size_t>(state.info.components);
  for (int i = 0; i < count; ++i, ++state.next_row) {
    const uint8_t* from =
        state.plain->bytes.data() + row_bytes * static_cast<size_t>(state.next_row);
    ConvertRow(from, state.info.width, state.info.components, state.plain_bytes, rows[i]);
  }
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
