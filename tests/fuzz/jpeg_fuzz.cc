// How to decode it (DecodeForm), then a JPEG file.
#include "tests/fuzz/decode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  convoy::fuzz::Input input(data, size);
  const convoy::fuzz::DecodeForm form(input);
  convoy::fuzz::Decode(input.Rest(), form);
  return 0;
}
