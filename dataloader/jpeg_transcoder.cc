#include "dataloader/jpeg_transcoder.h"

// jpeglib.h needs <cstdio>.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include <csetjmp>
#include <cstdlib>

namespace convoy {

// As in jpeg.cc: libjpeg reports errors by a call that must not return.
struct JpegTranscoder::State {
  jpeg_error_mgr errors{};
  std::jmp_buf jump;
  jpeg_decompress_struct from{};
  jpeg_compress_struct to{};
  bool is_amiss = false;             // a warning was given
  unsigned char* written = nullptr;  // of jpeg_mem_dest(), by malloc
  unsigned long written_bytes = 0;

  static void OnError(j_common_ptr jpeg) {
    std::longjmp(static_cast<State*>(jpeg->client_data)->jump, 1);
  }

  // False where the library met an error.
  template <typename Step>
  bool Run(const Step& step) {
    if (setjmp(jump) != 0) return false;
    step();
    return true;
  }

  State() {
    from.err = to.err = jpeg_std_error(&errors);
    from.client_data = to.client_data = this;
    errors.error_exit = OnError;
    errors.emit_message = [](j_common_ptr jpeg, int level) {
      if (level < 0) static_cast<State*>(jpeg->client_data)->is_amiss = true;
    };
    Run([&] {
      jpeg_create_decompress(&from);
      jpeg_create_compress(&to);
    });
  }
  ~State() {
    jpeg_destroy_decompress(&from);
    jpeg_destroy_compress(&to);
    std::free(written);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void Write(const std::vector<uint8_t>& file) {
    jpeg_mem_src(&from, file.data(), file.size());
    jpeg_read_header(&from, TRUE);
    jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&from);
    jpeg_copy_critical_parameters(&from, &to);
    to.optimize_coding = TRUE;
    // Whether CMYK is inverted hangs on this marker, and nothing else does.
    if (from.num_components == 4) to.write_Adobe_marker = from.saw_Adobe_marker;
    jpeg_mem_dest(&to, &written, &written_bytes);
    jpeg_write_coefficients(&to, coefficients);
    jpeg_finish_compress(&to);
    jpeg_finish_decompress(&from);
  }
};

JpegTranscoder::JpegTranscoder() : state_(std::make_unique<State>()) {}
JpegTranscoder::~JpegTranscoder() = default;

bool JpegTranscoder::Transcode(const std::vector<uint8_t>& file, std::vector<uint8_t>& into) {
  State& state = *state_;
  jpeg_abort_decompress(&state.from);
  jpeg_abort_compress(&state.to);
  std::free(state.written);
  state.written = nullptr;
  state.written_bytes = 0;
  state.is_amiss = false;
  if (!state.Run([&] { state.Write(file); }) || state.is_amiss) return false;
  into.assign(state.written, state.written + state.written_bytes);
  return true;
}

}  // namespace convoy
