#include "tests/fuzz/decode.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/hash.h"
#include "dataloader/images/image.h"

namespace convoy::fuzz {
namespace {

// Returns a hash of the pixels, or what is wrong with the image.
std::string Outcome(ImageDecoder& decoder, const EncodedSample& sample, const DecodeForm& form) {
  Hasher hasher;
  try {
    RowDecoder& image = decoder.Open(sample);
    const ImageInfo& info = image.info();
    Window window;
    window.x0 = info.width * form.left / 256;
    window.x1 = std::clamp(info.width * (form.right + 1) / 256, window.x0 + 1, info.width);
    window.y0 = info.height * form.top / 256;
    window.y1 = std::clamp(info.height * (form.bottom + 1) / 256, window.y0 + 1, info.height);
    image.Start(window, form.channels);
    Require(
        image.first_column() <= window.x0 && image.first_column() + image.columns() >= window.x1,
        "the window's columns are not decoded");
    // Each row has memory of its own, so that the address sanitizer sees where it ends.
    std::vector<std::vector<uint8_t>> memory(static_cast<size_t>(form.rows));
    std::vector<uint8_t*> rows;
    const auto row_bytes = static_cast<size_t>(image.columns() * image.pixel_bytes());
    for (std::vector<uint8_t>& row : memory) {
      row.resize(row_bytes);
      rows.push_back(row.data());
    }
    for (int y = window.y0; y < window.y1; y += form.rows) {
      const int count = std::min(form.rows, window.y1 - y);
      image.ReadRows(rows.data(), count);
      for (int i = 0; i < count; ++i) hasher.Add(rows[static_cast<size_t>(i)], row_bytes);
    }
  } catch (const Error& error) {
    RequireRefusal(error);
    return error.message();
  }
  return std::to_string(hasher.Digest());
}

}  // namespace

DecodeForm::DecodeForm(Input& input) {
  const uint8_t flags = input.Byte();
  channels = (flags & 1) != 0 ? 3 : 1;
  read_orientation = (flags & 2) != 0;
  rows = 1 + (flags >> 4);
  left = input.Byte();
  right = input.Byte();
  top = input.Byte();
  bottom = input.Byte();
}

void Decode(std::string_view image, const DecodeForm& form) {
  EncodedSample sample;
  sample.bytes.assign(image.begin(), image.end());
  ImageDecoder decoder(form.read_orientation ? ReadOrientation::kYes : ReadOrientation::kNo);
  const std::string first = Outcome(decoder, sample, form);
  Require(Outcome(decoder, sample, form) == first, "a second decode ends differently");
}

}  // namespace convoy::fuzz
