// Whether the chunks keep their checksums (1: as they are, else they are made right), how to decode
// it (DecodeForm), then a PNG file.
#include <zlib.h>

#include "tests/fuzz/decode.h"

namespace {

constexpr size_t kSignature = 8;

uint32_t BigEndian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

// Chunks are a length, a type, the content and a checksum of the last two.
void RepairChunks(std::string& png) {
  auto* bytes = reinterpret_cast<uint8_t*>(png.data());
  for (size_t at = kSignature; at + 12 <= png.size();) {
    const size_t length = BigEndian(bytes + at);
    if (length > png.size() - at - 12) return;
    const uLong sum = crc32(0, bytes + at + 4, static_cast<uInt>(length + 4));
    for (size_t i = 0; i < 4; ++i) {
      bytes[at + 8 + length + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    }
    at += length + 12;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  convoy::fuzz::Input input(data, size);
  const bool as_it_is = input.Byte() == 1;
  const convoy::fuzz::DecodeForm form(input);
  std::string png(input.Rest());
  if (!as_it_is) RepairChunks(png);
  convoy::fuzz::Decode(png, form);
  return 0;
}
