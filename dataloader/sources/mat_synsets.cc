#include "dataloader/sources/mat_synsets.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "core/device/memory.h"
#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t kHeader = 128, kTag = 8;
constexpr std::string_view kVersionAndOrder{"\x00\x01IM", 4};
constexpr size_t kMostInflated = 64 << 20;  // bytes; the devkit's are less than one million
constexpr uint32_t kComplex = 0x0800;       // in an array's flags, whose lowest byte is the class

// Types of elements ("mi").
constexpr uint32_t kInt8 = 1, kInt32 = 5, kUint32 = 6, kMatrix = 14, kCompressed = 15;
constexpr uint32_t kUtf8 = 16;  // one to four bytes for each of the letters that dimensions count
// Classes of arrays ("mx").
constexpr uint32_t kStruct = 2, kChar = 4, kFirstNumeric = 6, kLastNumeric = 15;

struct Malformed {
  std::string problem;
};

uint32_t Number(Bytes bytes) {
  uint32_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof(number));
  return number;
}

// Bytes of a value of an element's type; 0 where it holds no values.
size_t WidthOf(uint32_t type) {
  constexpr uint8_t kWidths[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8, 0, 0, 1, 2, 4};
  return type < std::size(kWidths) ? kWidths[type] : 0;
}

struct Element {
  uint32_t type = 0;
  Bytes data;
  bool is_small = false;  // the data lie in the tag
};

// The elements that lie in `rest`, one after the other.
class Elements {
 public:
  explicit Elements(Bytes rest) : rest_(rest) {}

  bool AtEnd() const { return rest_.empty(); }
  Element Next() {
    if (rest_.size() < kTag) throw Malformed{"an element is cut"};
    Element element{.type = Number(rest_)};
    const uint32_t small_bytes = element.type >> 16;
    if (small_bytes > 0) {
      if (small_bytes > 4) throw Malformed{"an element with a malformed tag"};
      element.type &= 0xFFFF;
      element.is_small = true;
      element.data = rest_.subspan(4, small_bytes);
      rest_ = rest_.subspan(kTag);
      return element;
    }
    const size_t bytes = Number(rest_.subspan(4));
    rest_ = rest_.subspan(kTag);
    const size_t padded = element.type == kCompressed
                              ? bytes
                              : static_cast<size_t>(RoundUp(static_cast<int64_t>(bytes), kTag));
    if (padded > rest_.size()) {
      throw Malformed{fmt::format("an element of {} bytes in {}", bytes, rest_.size())};
    }
    element.data = rest_.first(bytes);
    rest_ = rest_.subspan(padded);
    return element;
  }
  Element Next(uint32_t type) {
    const Element element = Next();
    if (element.type != type) {
      throw Malformed{fmt::format("an element of type {}, {} expected", element.type, type)};
    }
    return element;
  }

 private:
  Bytes rest_;
};

std::vector<uint8_t> Inflate(Bytes packed) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) throw Error(ExitCode::kDevice, "no memory for zlib");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> closed(&stream, inflateEnd);
  stream.next_in = const_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  std::vector<uint8_t> bytes;
  int code = Z_OK;
  while (code == Z_OK) {
    const size_t before = bytes.size();
    if (before > kMostInflated) throw Malformed{"a compressed variable is too large"};
    bytes.resize(before + std::max(before, packed.size() + 4096));
    stream.next_out = bytes.data() + before;
    stream.avail_out = static_cast<uInt>(bytes.size() - before);
    code = inflate(&stream, Z_NO_FLUSH);
    bytes.resize(bytes.size() - stream.avail_out);
  }
  if (code != Z_STREAM_END) throw Malformed{"damaged compressed data"};
  return bytes;
}

// What every array starts with.
struct Array {
  explicit Array(Elements& elements) {
    const Element flags = elements.Next(kUint32);
    if (flags.data.size() != 8) throw Malformed{"an array without flags"};
    array_class = Number(flags.data) & 0xFF;
    is_complex = (Number(flags.data) & kComplex) != 0;
    const Element sizes = elements.Next(kInt32);
    if (sizes.data.size() < 8 || sizes.data.size() % 4 != 0) {
      throw Malformed{"an array without dimensions"};
    }
    for (size_t i = 0; i < sizes.data.size(); i += 4) {
      if (__builtin_mul_overflow(count, size_t{Number(sizes.data.subspan(i))}, &count)) {
        throw Malformed{"dimensions that overflow"};
      }
    }
    const Element letters = elements.Next(kInt8);
    name = {reinterpret_cast<const char*>(letters.data.data()), letters.data.size()};
  }

  uint32_t array_class = 0;
  bool is_complex = false;
  size_t count = 1;
  std::string_view name;
};

// A text or numbers.
void CheckField(Bytes matrix) {
  if (matrix.empty()) return;  // never assigned
  Elements elements(matrix);
  const Array array(elements);
  const bool is_numeric = array.array_class >= kFirstNumeric && array.array_class <= kLastNumeric;
  if ((!is_numeric && array.array_class != kChar) || array.is_complex) {
    throw Malformed{
        fmt::format("a field of class {}, text or real numbers expected", array.array_class)};
  }
  const Element values = elements.Next();
  const size_t width = WidthOf(values.type);
  const size_t found = width == 0 ? 0 : values.data.size() / width;
  const bool fits = values.type == kUtf8 ? found >= array.count && found / 4 <= array.count
                                         : found == array.count;
  if (width == 0 || values.data.size() % width != 0 || !fits) {
    throw Malformed{fmt::format("a field of {} values in {} bytes of type {}", array.count,
                                values.data.size(), values.type)};
  }
  if (!elements.AtEnd()) throw Malformed{"a field with more than its values"};
}

// `elements` are what follows the name of `array`.
void CheckStructs(const Array& array, Elements elements) {
  if (array.array_class != kStruct) throw Malformed{"synsets is no struct"};
  const Element name_bytes = elements.Next(kInt32);
  const Element names = elements.Next(kInt8);
  if (!name_bytes.is_small || name_bytes.data.size() != 4 || names.is_small) {
    throw Malformed{"malformed names of fields"};
  }
  const size_t bytes = Number(name_bytes.data);
  if (bytes == 0 || names.data.empty() || names.data.size() % bytes != 0) {
    throw Malformed{"malformed names of fields"};
  }
  for (size_t end = bytes; end <= names.data.size(); end += bytes) {
    if (names.data[end - 1] != 0) throw Malformed{"malformed names of fields"};
  }
  const size_t fields = names.data.size() / bytes;
  size_t expected = 0;
  if (__builtin_mul_overflow(array.count, fields, &expected)) {
    throw Malformed{"dimensions that overflow"};
  }
  size_t found = 0;
  for (; !elements.AtEnd(); ++found) CheckField(elements.Next(kMatrix).data);
  if (found != expected) {
    throw Malformed{
        fmt::format("{} synsets of {} fields, but {} values", array.count, fields, found)};
  }
}

// `header`, then `matrix` as its only variable.
std::vector<uint8_t> FileOf(Bytes header, Bytes matrix) {
  const uint32_t tag[2] = {kMatrix, static_cast<uint32_t>(matrix.size())};
  std::vector<uint8_t> file(kHeader + kTag + matrix.size());
  std::memcpy(file.data(), header.data(), kHeader);
  std::memcpy(file.data() + kHeader, tag, kTag);
  std::memcpy(file.data() + kHeader + kTag, matrix.data(), matrix.size());
  return file;
}

}  // namespace

std::vector<uint8_t> ExtractSynsets(const std::vector<uint8_t>& mat, const std::string& name) {
  try {
    const Bytes bytes(mat);
    if (bytes.size() < kHeader ||
        std::memcmp(bytes.data() + kHeader - kVersionAndOrder.size(), kVersionAndOrder.data(),
                    kVersionAndOrder.size()) != 0) {
      throw Malformed{"not a MAT file of version 5"};
    }
    Elements variables(bytes.subspan(kHeader));
    while (!variables.AtEnd()) {
      Element variable = variables.Next();
      std::vector<uint8_t> inflated;
      if (variable.type == kCompressed) {
        inflated = Inflate(variable.data);
        variable = Elements(inflated).Next();
      }
      if (variable.type != kMatrix) continue;
      Elements elements(variable.data);
      const Array array(elements);
      if (array.name != "synsets") continue;
      CheckStructs(array, elements);
      return FileOf(bytes.first(kHeader), variable.data);
    }
    throw Malformed{"holds no struct named synsets"};
  } catch (const Malformed& malformed) {
    throw Error(ExitCode::kData, fmt::format("{}: {}", name, malformed.problem),
                "give --devkit the devkit as it was downloaded");
  }
}

}  // namespace convoy
