// tests/fuzz/decode.h - one image through ImageDecoder, for the targets of the image formats.
#pragma once

#include <string_view>

#include "tests/fuzz/support.h"

namespace convoy::fuzz {

// How an image is decoded: the first bytes of an input.
struct DecodeForm {
  explicit DecodeForm(Input& input);

  int channels;
  bool read_orientation;
  int rows;                      // asked for at once
  int left, right, top, bottom;  // of the window, in 256ths of the image's sides
};

// Decodes twice with one decoder, which must come to the same end both times.
void Decode(std::string_view image, const DecodeForm& form);

}  // namespace convoy::fuzz
