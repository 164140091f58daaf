#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "dataloader/images/decoders.h"

namespace convoy {
namespace {

// As in jpeg.cc: libpng reports errors by a call that must not return.
class PngDecoder final : public RowDecoder {
 public:
  PngDecoder() = default;
  ~PngDecoder() override { Close(); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  void ReadRows(uint8_t* const* rows, int count) override;

 private:
  void Open(const EncodedSample& sample) override;
  void Begin(const Window& window, int channels, int dct_scale) override;

  template <typename Step>
  void Run(const Step& step) {
    if (setjmp(jump_) != 0) throw Error(ExitCode::kData, message_);
    step();
  }

  static void OnError(png_structp png, png_const_charp text) {
    auto& decoder = *static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::snprintf(decoder.message_, sizeof(decoder.message_), "PNG: %s", text);
    std::longjmp(decoder.jump_, 1);
  }
  static void OnWarning(png_structp, png_const_charp) {}

  static void OnRead(png_structp png, png_bytep to, size_t bytes) {
    auto& decoder = *static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (bytes > decoder.left_) png_error(png, "the file ends too early");
    std::memcpy(to, decoder.data_, bytes);
    decoder.data_ += bytes;
    decoder.left_ -= bytes;
  }

  void Close() {
    png_destroy_read_struct(&png_, &png_info_, nullptr);
    png_ = nullptr;
    png_info_ = nullptr;
  }
  void Convert();

  png_structp png_ = nullptr;
  png_infop png_info_ = nullptr;
  std::jmp_buf jump_;
  char message_[128] = {};
  const uint8_t* data_ = nullptr;
  size_t left_ = 0;
  int stored_channels_ = 0;  // after the conversions: 1 or 3
  bool interlaced_ = false;
  int next_row_ = 0;
  std::vector<uint8_t> whole_, row_;  // of stored_channels_; `whole_` if interlaced
};

// Makes 8-bit grey or R, G, B of whatever is stored.
void PngDecoder::Convert() {
  const png_byte type = png_get_color_type(png_, png_info_);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
  if (!(type & PNG_COLOR_MASK_COLOR)) png_set_expand_gray_1_2_4_to_8(png_);
  png_set_scale_16(png_);
  png_set_strip_alpha(png_);
  png_set_interlace_handling(png_);
  png_read_update_info(png_, png_info_);
}

void PngDecoder::Open(const EncodedSample& sample) {
  constexpr png_alloc_size_t kLargestChunk = 8 << 20;
  Close();
  data_ = sample.bytes.data();
  left_ = sample.bytes.size();
  next_row_ = 0;
  png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, OnError, OnWarning);
  if (png_ != nullptr) png_info_ = png_create_info_struct(png_);
  if (png_info_ == nullptr) throw Error(ExitCode::kDevice, "no memory for a PNG decoder");
  Run([&] {
    png_set_read_fn(png_, this, OnRead);
    png_set_user_limits(png_, kLongestSide, kLongestSide);
    png_set_chunk_malloc_max(png_, kLargestChunk);
    png_set_chunk_cache_max(png_, 16);
    png_read_info(png_, png_info_);
  });
  const png_byte type = png_get_color_type(png_, png_info_);
  const bool is_colour = (type & PNG_COLOR_MASK_COLOR) != 0;
  info_ = {.format = ImageFormat::kPng,
           .width = static_cast<int>(png_get_image_width(png_, png_info_)),
           .height = static_cast<int>(png_get_image_height(png_, png_info_)),
           .components = !is_colour                           ? 1
                         : (type & PNG_COLOR_MASK_ALPHA) != 0 ? 4
                                                              : 3};
  RequireAtMostPixels(info_.width, info_.height);
}

void PngDecoder::Begin(const Window& window, int channels, int) {
  interlaced_ = png_get_interlace_type(png_, png_info_) != PNG_INTERLACE_NONE;
  Run([&] { Convert(); });
  stored_channels_ = png_get_channels(png_, png_info_);
  const size_t row_bytes = static_cast<size_t>(info_.width) * static_cast<size_t>(stored_channels_);
  CONVOY_CHECK((stored_channels_ == 1 || stored_channels_ == 3) &&
               png_get_rowbytes(png_, png_info_) == row_bytes);
  pixel_bytes_ = std::min(channels, stored_channels_) == 1 ? 1 : 4;
  columns_ = info_.width;
  row_.resize(row_bytes);
  if (interlaced_) {
    whole_.resize(row_bytes * static_cast<size_t>(info_.height));
    std::vector<png_bytep> rows;
    rows.reserve(static_cast<size_t>(info_.height));
    for (int y = 0; y < info_.height; ++y) {
      rows.push_back(whole_.data() + row_bytes * static_cast<size_t>(y));
    }
    png_bytepp pointers = rows.data();
    Run([&] { png_read_image(png_, pointers); });
    next_row_ = window.y0;
    return;
  }
  Run([&] {
    for (; next_row_ < window.y0; ++next_row_) png_read_row(png_, row_.data(), nullptr);
  });
}

void PngDecoder::ReadRows(uint8_t* const* rows, int count) {
  for (int i = 0; i < count; ++i, ++next_row_) {
    const uint8_t* from = row_.data();
    if (interlaced_) {
      from = whole_.data() + row_.size() * static_cast<size_t>(next_row_);
    } else {
      Run([&] { png_read_row(png_, row_.data(), nullptr); });
    }
    ConvertRow(from, info_.width, stored_channels_, pixel_bytes_, rows[i]);
  }
}

}  // namespace

std::unique_ptr<RowDecoder> MakePngDecoder() { return std::make_unique<PngDecoder>(); }

}  // namespace convoy
