#include "dataloader/images/png.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/error.h"

namespace convoy {

// As in jpeg.cc: libpng reports errors by a call that must not return.
struct PngDecoder::State {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::jmp_buf jump;
  char message[128] = {};
  const uint8_t* data = nullptr;
  size_t left = 0;
  int width = 0, height = 0;
  int stored_channels = 0;  // after the conversions: 1 or 3
  int pixel_bytes = 0;
  bool interlaced = false;
  int next_row = 0;
  std::vector<uint8_t> whole, row;  // of stored_channels; `whole` when interlaced

  ~State() { Close(); }
  void Close() {
    png_destroy_read_struct(&png, &info, nullptr);
    png = nullptr;
    info = nullptr;
  }

  template <typename Step>
  void Run(const Step& step) {
    if (setjmp(jump) != 0) throw Error(ExitCode::kData, message);
    step();
  }

  static void OnError(png_structp png, png_const_charp text) {
    auto& state = *static_cast<State*>(png_get_error_ptr(png));
    std::snprintf(state.message, sizeof(state.message), "PNG: %s", text);
    std::longjmp(state.jump, 1);
  }
  static void OnWarning(png_structp, png_const_charp) {}

  static void OnRead(png_structp png, png_bytep to, size_t bytes) {
    auto& state = *static_cast<State*>(png_get_io_ptr(png));
    if (bytes > state.left) png_error(png, "the file ends too early");
    std::memcpy(to, state.data, bytes);
    state.data += bytes;
    state.left -= bytes;
  }

  // Whatever is stored becomes 8-bit grey or R, G, B.
  void Convert() {
    const png_byte type = png_get_color_type(png, info);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (!(type & PNG_COLOR_MASK_COLOR)) png_set_expand_gray_1_2_4_to_8(png);
    png_set_scale_16(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
  }
};

PngDecoder::PngDecoder() : state_(std::make_unique<State>()) {}
PngDecoder::~PngDecoder() = default;

int PngDecoder::pixel_bytes() const { return state_->pixel_bytes; }
int PngDecoder::columns() const { return state_->width; }

ImageInfo PngDecoder::Open(const uint8_t* data, size_t bytes) {
  constexpr png_alloc_size_t kLargestChunk = 8 << 20;
  State& state = *state_;
  state.Close();
  state.data = data;
  state.left = bytes;
  state.next_row = 0;
  state.png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &state, State::OnError, State::OnWarning);
  if (state.png != nullptr) state.info = png_create_info_struct(state.png);
  if (state.info == nullptr) throw Error(ExitCode::kDevice, "no memory for a PNG decoder");
  state.Run([&] {
    png_set_read_fn(state.png, &state, State::OnRead);
    png_set_user_limits(state.png, kLongestSide, kLongestSide);
    png_set_chunk_malloc_max(state.png, kLargestChunk);
    png_set_chunk_cache_max(state.png, 16);
    png_read_info(state.png, state.info);
  });
  state.width = static_cast<int>(png_get_image_width(state.png, state.info));
  state.height = static_cast<int>(png_get_image_height(state.png, state.info));
  if (int64_t{state.width} * state.height > kMostPixels) {
    throw Error(ExitCode::kData, fmt::format("{} x {} pixels, at most {} expected", state.width,
                                             state.height, kMostPixels));
  }
  const png_byte type = png_get_color_type(state.png, state.info);
  const bool is_colour = (type & PNG_COLOR_MASK_COLOR) != 0;
  return {.format = ImageFormat::kPng,
          .width = state.width,
          .height = state.height,
          .components = !is_colour                           ? 1
                        : (type & PNG_COLOR_MASK_ALPHA) != 0 ? 4
                                                             : 3};
}

void PngDecoder::Start(const Window& window, int channels) {
  State& state = *state_;
  state.interlaced = png_get_interlace_type(state.png, state.info) != PNG_INTERLACE_NONE;
  state.Run([&] { state.Convert(); });
  state.stored_channels = png_get_channels(state.png, state.info);
  const size_t row_bytes =
      static_cast<size_t>(state.width) * static_cast<size_t>(state.stored_channels);
  CONVOY_CHECK((state.stored_channels == 1 || state.stored_channels == 3) &&
               png_get_rowbytes(state.png, state.info) == row_bytes);
  state.pixel_bytes = std::min(channels, state.stored_channels) == 1 ? 1 : 4;
  state.row.resize(row_bytes);
  if (state.interlaced) {
    state.whole.resize(row_bytes * static_cast<size_t>(state.height));
    std::vector<png_bytep> rows;
    rows.reserve(static_cast<size_t>(state.height));
    for (int y = 0; y < state.height; ++y) {
      rows.push_back(state.whole.data() + row_bytes * static_cast<size_t>(y));
    }
    png_bytepp pointers = rows.data();
    state.Run([&] { png_read_image(state.png, pointers); });
    state.next_row = window.y0;
    return;
  }
  state.Run([&] {
    for (; state.next_row < window.y0; ++state.next_row) {
      png_read_row(state.png, state.row.data(), nullptr);
    }
  });
}

void PngDecoder::ReadRows(uint8_t* const* rows, int count) {
  State& state = *state_;
  for (int i = 0; i < count; ++i, ++state.next_row) {
    const uint8_t* from = state.row.data();
    if (state.interlaced) {
      from = state.whole.data() + state.row.size() * static_cast<size_t>(state.next_row);
    } else {
      state.Run([&] { png_read_row(state.png, state.row.data(), nullptr); });
    }
    ConvertRow(from, state.width, state.stored_channels, state.pixel_bytes, rows[i]);
  }
}

}  // namespace convoy
