#include "dataloader/images/jpeg.h"

// jpeglib.h needs <cstdio>, and jerror.h needs jpeglib.h.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "core/error.h"

namespace convoy {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr JOCTET kEndOfImage[2] = {0xFF, JPEG_EOI};

// The orientation in an EXIF block ("Exif\0\0", then a TIFF file), 1 where there is none.
int OrientationOf(const uint8_t* data, size_t bytes) {
  constexpr size_t kTiff = 6, kEntry = 12;
  constexpr uint32_t kOrientationTag = 0x0112;
  if (bytes < kTiff + 8 || std::memcmp(data, "Exif\0\0", 6) != 0) return 1;
  const uint8_t* tiff = data + kTiff;
  const size_t size = bytes - kTiff;
  const bool little = tiff[0] == 'I';
  const auto number = [&](size_t at, int count) -> uint32_t {
    if (at + static_cast<size_t>(count) > size) return 0;
    uint32_t value = 0;
    for (int i = 0; i < count; ++i) {
      value = value << 8 | tiff[at + static_cast<size_t>(little ? count - 1 - i : i)];
    }
    return value;
  };
  const size_t directory = number(4, 4);
  const uint32_t entries = number(directory, 2);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kEntry;
    if (entry + kEntry > size) break;
    if (number(entry, 2) == kOrientationTag) return static_cast<int>(number(entry + 8, 2));
  }
  return 1;
}

// Adobe stores CMYK inverted (0 is full ink); without Adobe's marker 255 is full ink.
template <typename Store>
void ConvertCmyk(const uint8_t* from, int pixels, bool inverted, const Store& store) {
  for (int i = 0; i < pixels; ++i) {
    int value[4];
    for (int c = 0; c < 4; ++c) value[c] = inverted ? from[4 * i + c] : 255 - from[4 * i + c];
    const auto with_black = [&](int c) { return (value[c] * value[3] + 127) / 255; };
    store(i, with_black(0), with_black(1), with_black(2));
  }
}

}  // namespace

// libjpeg reports errors by a call that must not return: it jumps back into Run(). Between the two
// lie C functions and trivial objects alone.
struct JpegDecoder::State {
  const ReadOrientation orientation;
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};
  bool data_is_missing = false;  // part of the pixels is invented
  bool past_end = false;         // the bytes ran out before the end-of-image marker
  int first_column = 0, columns = 0, pixel_bytes = 0;
  std::vector<uint8_t> cmyk_row;

  static State& Of(j_common_ptr jpeg) { return *static_cast<State*>(jpeg->client_data); }

  template <typename Step>
  void Run(const Step& step) {
    if (setjmp(jump) != 0) throw Error(ExitCode::kData, message);
    step();
  }

  static void OnError(j_common_ptr jpeg) {
    State& state = Of(jpeg);
    jpeg->err->format_message(jpeg, state.message);
    std::longjmp(state.jump, 1);
  }

  static void OnMessage(j_common_ptr jpeg, int level) {
    if (level >= 0) return;  // a trace, not a warning
    switch (jpeg->err->msg_code) {
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_ARITH_BAD_CODE:
      case JWRN_MUST_RESYNC:
        State& state = Of(jpeg);
        if (!state.data_is_missing) jpeg->err->format_message(jpeg, state.message);
        state.data_is_missing = true;
    }
  }

  static void OnProgress(j_common_ptr jpeg) {
    State& state = Of(jpeg);
    if (state.jpeg.input_scan_number <= kMostScans) return;
    std::snprintf(state.message, sizeof(state.message), "more than %d scans", kMostScans);
    std::longjmp(state.jump, 1);
  }

  // Beyond the last byte lies an end-of-image marker, as often as it is asked for.
  static boolean FillInput(j_decompress_ptr jpeg) {
    Of(reinterpret_cast<j_common_ptr>(jpeg)).past_end = true;
    jpeg->src->next_input_byte = kEndOfImage;
    jpeg->src->bytes_in_buffer = sizeof(kEndOfImage);
    return TRUE;
  }

  static void SkipInput(j_decompress_ptr jpeg, long bytes) {
    if (bytes <= 0) return;
    if (static_cast<size_t>(bytes) > jpeg->src->bytes_in_buffer) {
      FillInput(jpeg);
      return;
    }
    jpeg->src->next_input_byte += bytes;
    jpeg->src->bytes_in_buffer -= static_cast<size_t>(bytes);
  }

  explicit State(ReadOrientation read_orientation) : orientation(read_orientation) {
    jpeg.err = jpeg_std_error(&errors);
    jpeg.client_data = this;
    errors.error_exit = OnError;
    errors.emit_message = OnMessage;
    source.init_source = [](j_decompress_ptr) {};
    source.fill_input_buffer = FillInput;
    source.skip_input_data = SkipInput;
    source.resync_to_restart = jpeg_resync_to_restart;
    source.term_source = [](j_decompress_ptr) {};
    progress.progress_monitor = OnProgress;
    Create();
  }
  ~State() { jpeg_destroy_decompress(&jpeg); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void Create() {
    Run([&] { jpeg_create_decompress(&jpeg); });
    jpeg.src = &source;
    jpeg.progress = &progress;
    if (orientation == ReadOrientation::kYes) {
      Run([&] { jpeg_save_markers(&jpeg, kExifMarker, 0xFFFF); });
    }
  }
  // For the next image. jpeg_abort_decompress would keep the tables of this one, and an image that
  // lacks its own would decode with them.
  void Reset() {
    jpeg_destroy_decompress(&jpeg);
    Create();
    data_is_missing = past_end = false;
  }

  void CheckComplete() const {
    // A later scan that is not there leaves no other trace.
    if (data_is_missing) throw Error(ExitCode::kData, message);
    if (past_end && jpeg_has_multiple_scans(const_cast<j_decompress_ptr>(&jpeg))) {
      throw Error(ExitCode::kData, "the file ends before its last scan");
    }
    // The arithmetic decoder reads zeros behind the end without a word.
    if (past_end && jpeg.arith_code) {
      throw Error(ExitCode::kData, "the file ends before its image data");
    }
  }
};

JpegDecoder::JpegDecoder(ReadOrientation orientation)
    : state_(std::make_unique<State>(orientation)) {}
JpegDecoder::~JpegDecoder() = default;

int JpegDecoder::pixel_bytes() const { return state_->pixel_bytes; }
int JpegDecoder::first_column() const { return state_->first_column; }
int JpegDecoder::columns() const { return state_->columns; }

ImageInfo JpegDecoder::Open(const uint8_t* data, size_t bytes) {
  State& state = *state_;
  jpeg_decompress_struct& jpeg = state.jpeg;
  state.Reset();
  state.source.next_input_byte = data;
  state.source.bytes_in_buffer = bytes;
  state.Run([&] { jpeg_read_header(&jpeg, TRUE); });
  ImageInfo info{.format = ImageFormat::kJpeg,
                 .width = static_cast<int>(jpeg.image_width),
                 .height = static_cast<int>(jpeg.image_height),
                 .components = jpeg.num_components,
                 .progressive = jpeg.progressive_mode != FALSE};
  if (int64_t{info.width} * info.height > kMostPixels) {
    throw Error(ExitCode::kData, fmt::format("{} x {} pixels, at most {} expected", info.width,
                                             info.height, kMostPixels));
  }
  if (info.components != 1 && info.components != 3 && info.components != 4) {
    throw Error(ExitCode::kData, fmt::format("{} colour components", info.components));
  }
  for (jpeg_saved_marker_ptr marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker != kExifMarker) continue;
    const int orientation = OrientationOf(marker->data, marker->data_length);
    if (orientation != 1) info.orientation = orientation;
  }
  return info;
}

void JpegDecoder::Start(const Window& window, int channels, int dct_scale) {
  State& state = *state_;
  jpeg_decompress_struct& jpeg = state.jpeg;
  const bool is_grey = channels == 1 || jpeg.num_components == 1;
  state.pixel_bytes = is_grey ? 1 : 4;
  jpeg.out_color_space = jpeg.num_components == 4 ? JCS_CMYK
                         : is_grey                ? JCS_GRAYSCALE
                                                  : JCS_EXT_RGBX;
  jpeg.dct_method = JDCT_ISLOW;
  jpeg.do_fancy_upsampling = TRUE;
  jpeg.do_block_smoothing = FALSE;
  jpeg.scale_num = 1;
  jpeg.scale_denom = static_cast<unsigned>(dct_scale);
  state.Run([&] { jpeg_start_decompress(&jpeg); });
  state.CheckComplete();

  // Where chroma has fewer columns, the outermost ones of a cropped decode lack their neighbours':
  // one block more on each side keeps the window equal to a full decode.
  const int block = jpeg.max_h_samp_factor > 1 ? jpeg.max_h_samp_factor * DCTSIZE : 0;
  JDIMENSION x = static_cast<JDIMENSION>(std::max(window.x0 - block, 0));
  JDIMENSION width = std::min(static_cast<JDIMENSION>(window.x1 + block), jpeg.output_width) - x;
  if (width < jpeg.output_width) {
    state.Run([&] { jpeg_crop_scanline(&jpeg, &x, &width); });
  }
  state.first_column = static_cast<int>(x);
  state.columns = static_cast<int>(width);
  if (jpeg.num_components == 4) state.cmyk_row.resize(size_t{4} * width);
  if (window.y0 > 0) {
    state.Run([&] { jpeg_skip_scanlines(&jpeg, static_cast<JDIMENSION>(window.y0)); });
  }
}

void JpegDecoder::ReadRows(uint8_t* const* rows, int count) {
  State& state = *state_;
  if (state.jpeg.num_components == 4) {
    const bool inverted = state.jpeg.saw_Adobe_marker != FALSE;
    for (int row = 0; row < count; ++row) {
      uint8_t* from = state.cmyk_row.data();
      uint8_t* to = rows[row];
      state.Run([&] { jpeg_read_scanlines(&state.jpeg, &from, 1); });
      if (state.pixel_bytes == 1) {
        ConvertCmyk(from, state.columns, inverted,
                    [to](int i, int r, int g, int b) { to[i] = Luma(r, g, b); });
      } else {
        ConvertCmyk(from, state.columns, inverted, [to](int i, int r, int g, int b) {
          to[4 * i] = static_cast<uint8_t>(r);
          to[4 * i + 1] = static_cast<uint8_t>(g);
          to[4 * i + 2] = static_cast<uint8_t>(b);
        });
      }
    }
  } else {
    JSAMPARRAY lines = const_cast<JSAMPARRAY>(rows);
    state.Run([&] {
      for (int done = 0; done < count;) {
        const JDIMENSION read =
            jpeg_read_scanlines(&state.jpeg, lines + done, static_cast<JDIMENSION>(count - done));
        if (read == 0) break;  // rows beyond the last: the caller's mistake
        done += static_cast<int>(read);
      }
    });
  }
  state.CheckComplete();
}

}  // namespace convoy
