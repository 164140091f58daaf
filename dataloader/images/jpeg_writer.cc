#include "dataloader/images/jpeg_writer.h"

// jpeglib.h needs <cstdio>.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include <csetjmp>

#include "core/error.h"
#include "dataloader/images/image.h"

namespace convoy {

// As in jpeg.cc: libjpeg reports errors by a call that must not return.
struct JpegWriter::State {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_destination_mgr destination{};
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};
  std::vector<uint8_t>* into = nullptr;
  // For the file that is transcoded:
  jpeg_decompress_struct from{};
  jpeg_progress_mgr progress{};
  bool is_amiss = false;  // a warning was given

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

  // libjpeg writes into the unused end of the vector, which grows by doubling.
  void GiveSpace(size_t used) {
    into->resize(used < kFirstBytes ? kFirstBytes : 2 * used);
    destination.next_output_byte = into->data() + used;
    destination.free_in_buffer = into->size() - used;
  }
  static constexpr size_t kFirstBytes = 64 << 10;

  State() {
    jpeg.err = jpeg_std_error(&errors);
    jpeg.client_data = this;
    errors.error_exit = OnError;
    errors.emit_message = [](j_common_ptr any, int level) {
      if (level < 0) Of(any).is_amiss = true;
    };
    progress.progress_monitor = [](j_common_ptr any) {
      State& state = Of(any);
      if (state.from.input_scan_number > kMostScans) std::longjmp(state.jump, 1);
    };
    Run([&] { jpeg_create_compress(&jpeg); });
    destination.init_destination = [](j_compress_ptr c) {
      Of(reinterpret_cast<j_common_ptr>(c)).GiveSpace(0);
    };
    destination.empty_output_buffer = [](j_compress_ptr c) -> boolean {
      State& state = Of(reinterpret_cast<j_common_ptr>(c));
      state.GiveSpace(state.into->size());
      return TRUE;
    };
    destination.term_destination = [](j_compress_ptr c) {
      State& state = Of(reinterpret_cast<j_common_ptr>(c));
      state.into->resize(state.into->size() - state.destination.free_in_buffer);
    };
    jpeg.dest = &destination;
  }
  ~State() { jpeg_destroy_compress(&jpeg); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

JpegWriter::JpegWriter() : state_(std::make_unique<State>()) {}
JpegWriter::~JpegWriter() = default;

void JpegWriter::Write(const uint8_t* pixels, int width, int height, int channels, int quality,
                       std::vector<uint8_t>& into) {
  State& state = *state_;
  jpeg_compress_struct& jpeg = state.jpeg;
  state.into = &into;
  jpeg_abort_compress(&jpeg);
  state.Run([&] {
    jpeg.image_width = static_cast<JDIMENSION>(width);
    jpeg.image_height = static_cast<JDIMENSION>(height);
    jpeg.input_components = channels;
    jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    jpeg.optimize_coding = TRUE;
    jpeg.dct_method = JDCT_ISLOW;
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
      JSAMPROW row = const_cast<JSAMPROW>(pixels + size_t{jpeg.next_scanline} *
                                                       static_cast<size_t>(width * channels));
      jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
  });
}

bool JpegWriter::Transcode(const std::vector<uint8_t>& file, std::vector<uint8_t>& into) {
  State& state = *state_;
  jpeg_compress_struct& jpeg = state.jpeg;
  jpeg_decompress_struct& from = state.from;
  state.into = &into;
  state.is_amiss = false;
  jpeg_abort_compress(&jpeg);
  from = {};
  from.err = &state.errors;
  from.client_data = &state;
  bool is_done = false;
  try {
    state.Run([&] {
      // Made again for each file: if this file lacks a table, that of an earlier file would be
      // used.
      jpeg_create_decompress(&from);
      from.progress = &state.progress;
      jpeg_mem_src(&from, file.data(), file.size());
      jpeg_read_header(&from, TRUE);
      jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&from);
      jpeg_copy_critical_parameters(&from, &jpeg);
      jpeg.optimize_coding = TRUE;
      // This marker says whether CMYK is inverted. Nothing else depends on it.
      if (from.num_components == 4) jpeg.write_Adobe_marker = from.saw_Adobe_marker;
      jpeg_write_coefficients(&jpeg, coefficients);
      jpeg_finish_compress(&jpeg);
    });
    is_done = !state.is_amiss;
  } catch (const Error&) {
    // The caller keeps the file as it is, and needs no reason.
  }
  jpeg_destroy_decompress(&from);
  return is_done;
}

}  // namespace convoy
