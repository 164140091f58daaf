#include "dataloader/images/decoders.h"

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

// Returns the orientation in an EXIF block ("Exif\0\0", then a TIFF file), or 1 if it has none.
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

// libjpeg reports errors by a call that must not return: it jumps back into Run(). Only C functions
// and trivial objects lie between the two.
class JpegDecoder final : public RowDecoder {
 public:
  explicit JpegDecoder(ReadOrientation orientation);
  ~JpegDecoder() override { jpeg_destroy_decompress(&jpeg_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  void ReadRows(uint8_t* const* rows, int count) override;

 private:
  void Open(const EncodedSample& sample) override;
  void Begin(const Window& window, int channels, int dct_scale) override;
  void ReadCmykRow(uint8_t* to);

  static JpegDecoder& Of(j_common_ptr jpeg) {
    return *static_cast<JpegDecoder*>(jpeg->client_data);
  }

  template <typename Step>
  void Run(const Step& step) {
    if (setjmp(jump_) != 0) throw Error(ExitCode::kData, message_);
    step();
  }

  static void OnError(j_common_ptr jpeg);
  static void OnMessage(j_common_ptr jpeg, int level);
  static void OnProgress(j_common_ptr jpeg);
  static boolean FillInput(j_decompress_ptr jpeg);
  static void SkipInput(j_decompress_ptr jpeg, long bytes);

  void Create();
  void Reset();
  void CheckComplete() const;

  const ReadOrientation orientation_;
  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = {};
  bool data_is_missing_ = false;  // part of the pixels is invented
  bool past_end_ = false;         // the bytes ran out before the end-of-image marker
  std::vector<uint8_t> cmyk_row_;
};

// --- What libjpeg calls --------------------------------------------------------------------------

void JpegDecoder::OnError(j_common_ptr jpeg) {
  JpegDecoder& decoder = Of(jpeg);
  jpeg->err->format_message(jpeg, decoder.message_);
  std::longjmp(decoder.jump_, 1);
}

void JpegDecoder::OnMessage(j_common_ptr jpeg, int level) {
  if (level >= 0) return;  // a trace, not a warning
  switch (jpeg->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      JpegDecoder& decoder = Of(jpeg);
      if (!decoder.data_is_missing_) jpeg->err->format_message(jpeg, decoder.message_);
      decoder.data_is_missing_ = true;
  }
}

void JpegDecoder::OnProgress(j_common_ptr jpeg) {
  JpegDecoder& decoder = Of(jpeg);
  if (decoder.jpeg_.input_scan_number <= kMostScans) return;
  std::snprintf(decoder.message_, sizeof(decoder.message_), "more than %d scans", kMostScans);
  std::longjmp(decoder.jump_, 1);
}

// Gives an end-of-image marker, as often as bytes after the last one are asked for.
boolean JpegDecoder::FillInput(j_decompress_ptr jpeg) {
  Of(reinterpret_cast<j_common_ptr>(jpeg)).past_end_ = true;
  jpeg->src->next_input_byte = kEndOfImage;
  jpeg->src->bytes_in_buffer = sizeof(kEndOfImage);
  return TRUE;
}

void JpegDecoder::SkipInput(j_decompress_ptr jpeg, long bytes) {
  if (bytes <= 0) return;
  if (static_cast<size_t>(bytes) > jpeg->src->bytes_in_buffer) {
    FillInput(jpeg);
    return;
  }
  jpeg->src->next_input_byte += bytes;
  jpeg->src->bytes_in_buffer -= static_cast<size_t>(bytes);
}

// --- From image to image -------------------------------------------------------------------------

JpegDecoder::JpegDecoder(ReadOrientation orientation) : orientation_(orientation) {
  jpeg_.err = jpeg_std_error(&errors_);
  jpeg_.client_data = this;
  errors_.error_exit = OnError;
  errors_.emit_message = OnMessage;
  source_.init_source = [](j_decompress_ptr) {};
  source_.fill_input_buffer = FillInput;
  source_.skip_input_data = SkipInput;
  source_.resync_to_restart = jpeg_resync_to_restart;
  source_.term_source = [](j_decompress_ptr) {};
  progress_.progress_monitor = OnProgress;
  Create();
}

void JpegDecoder::Create() {
  Run([&] { jpeg_create_decompress(&jpeg_); });
  jpeg_.src = &source_;
  jpeg_.progress = &progress_;
  if (orientation_ == ReadOrientation::kYes) {
    Run([&] { jpeg_save_markers(&jpeg_, kExifMarker, 0xFFFF); });
  }
}

// Prepares for the next image. jpeg_abort_decompress would keep the tables of this one, and an
// image that lacks its own would decode with them.
void JpegDecoder::Reset() {
  jpeg_destroy_decompress(&jpeg_);
  Create();
  data_is_missing_ = past_end_ = false;
}

void JpegDecoder::CheckComplete() const {
  // A later scan that is not there leaves no other trace.
  if (data_is_missing_) throw Error(ExitCode::kData, message_);
  if (past_end_ && jpeg_has_multiple_scans(const_cast<j_decompress_ptr>(&jpeg_))) {
    throw Error(ExitCode::kData, "the file ends before its last scan");
  }
  // The arithmetic decoder reads zeros after the end and says nothing.
  if (past_end_ && jpeg_.arith_code) {
    throw Error(ExitCode::kData, "the file ends before its image data");
  }
}

void JpegDecoder::Open(const EncodedSample& sample) {
  Reset();
  source_.next_input_byte = sample.bytes.data();
  source_.bytes_in_buffer = sample.bytes.size();
  Run([&] { jpeg_read_header(&jpeg_, TRUE); });
  info_ = {.format = ImageFormat::kJpeg,
           .width = static_cast<int>(jpeg_.image_width),
           .height = static_cast<int>(jpeg_.image_height),
           .components = jpeg_.num_components,
           .progressive = jpeg_.progressive_mode != FALSE};
  RequireAtMostPixels(info_.width, info_.height);
  if (info_.components != 1 && info_.components != 3 && info_.components != 4) {
    throw Error(ExitCode::kData, fmt::format("{} colour components", info_.components));
  }
  for (jpeg_saved_marker_ptr marker = jpeg_.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker != kExifMarker) continue;
    const int orientation = OrientationOf(marker->data, marker->data_length);
    if (orientation != 1) info_.orientation = orientation;
  }
}

void JpegDecoder::Begin(const Window& window, int channels, int dct_scale) {
  const bool is_grey = channels == 1 || jpeg_.num_components == 1;
  pixel_bytes_ = is_grey ? 1 : 4;
  jpeg_.out_color_space = jpeg_.num_components == 4 ? JCS_CMYK
                          : is_grey                 ? JCS_GRAYSCALE
                                                    : JCS_EXT_RGBX;
  jpeg_.dct_method = JDCT_ISLOW;
  jpeg_.do_fancy_upsampling = TRUE;
  jpeg_.do_block_smoothing = FALSE;
  jpeg_.scale_num = 1;
  jpeg_.scale_denom = static_cast<unsigned>(dct_scale);
  Run([&] { jpeg_start_decompress(&jpeg_); });
  CheckComplete();

  // If chroma has fewer columns, the outermost ones of a cropped decode lack their neighbours: one
  // block more on each side keeps the window equal to a full decode.
  const int block = jpeg_.max_h_samp_factor > 1 ? jpeg_.max_h_samp_factor * DCTSIZE : 0;
  JDIMENSION x = static_cast<JDIMENSION>(std::max(window.x0 - block, 0));
  JDIMENSION width = std::min(static_cast<JDIMENSION>(window.x1 + block), jpeg_.output_width) - x;
  if (width < jpeg_.output_width) {
    Run([&] { jpeg_crop_scanline(&jpeg_, &x, &width); });
  }
  first_column_ = static_cast<int>(x);
  columns_ = static_cast<int>(width);
  if (jpeg_.num_components == 4) cmyk_row_.resize(size_t{4} * width);
  if (window.y0 > 0) {
    Run([&] { jpeg_skip_scanlines(&jpeg_, static_cast<JDIMENSION>(window.y0)); });
  }
}

// --- Rows ----------------------------------------------------------------------------------------

void JpegDecoder::ReadCmykRow(uint8_t* to) {
  uint8_t* from = cmyk_row_.data();
  Run([&] { jpeg_read_scanlines(&jpeg_, &from, 1); });
  const bool inverted = jpeg_.saw_Adobe_marker != FALSE;
  if (pixel_bytes_ == 1) {
    ConvertCmyk(from, columns_, inverted,
                [to](int i, int r, int g, int b) { to[i] = Luma(r, g, b); });
  } else {
    ConvertCmyk(from, columns_, inverted, [to](int i, int r, int g, int b) {
      to[4 * i] = static_cast<uint8_t>(r);
      to[4 * i + 1] = static_cast<uint8_t>(g);
      to[4 * i + 2] = static_cast<uint8_t>(b);
    });
  }
}

void JpegDecoder::ReadRows(uint8_t* const* rows, int count) {
  if (jpeg_.num_components == 4) {
    for (int row = 0; row < count; ++row) ReadCmykRow(rows[row]);
  } else {
    JSAMPARRAY lines = const_cast<JSAMPARRAY>(rows);
    Run([&] {
      for (int done = 0; done < count;) {
        const JDIMENSION read =
            jpeg_read_scanlines(&jpeg_, lines + done, static_cast<JDIMENSION>(count - done));
        if (read == 0) break;  // rows after the last one: the caller's mistake
        done += static_cast<int>(read);
      }
    });
  }
  CheckComplete();
}

}  // namespace

std::unique_ptr<RowDecoder> MakeJpegDecoder(ReadOrientation orientation) {
  return std::make_unique<JpegDecoder>(orientation);
}

}  // namespace convoy
