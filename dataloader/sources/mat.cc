// Reads a meta.mat: a MAT file of version 5, little-endian, with a struct array "synsets". The
// format is that of MathWorks' "MAT-File Format". No size that the file states is believed before
// it is compared with the bytes that are there.
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/memory.h"
#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/devkit.h"

namespace convoy {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t kHeader = 128, kTag = 8;
constexpr std::string_view kVersionAndOrder{"\x00\x01IM", 4};
constexpr size_t kMostInflated = 64 << 20;  // bytes; the devkit's are less than one million
constexpr uint32_t kComplex = 0x0800;       // in an array's flags, whose lowest byte is the class

// Types of elements ("mi").
constexpr uint32_t kInt8 = 1, kUint8 = 2, kInt16 = 3, kUint16 = 4, kInt32 = 5, kUint32 = 6;
constexpr uint32_t kSingle = 7, kDouble = 9, kInt64 = 12, kUint64 = 13;
constexpr uint32_t kMatrix = 14, kCompressed = 15;
constexpr uint32_t kUtf8 = 16;  // one to four bytes for each of the letters that dimensions count
// Classes of arrays ("mx").
constexpr uint32_t kStruct = 2, kChar = 4, kFirstNumeric = 6, kLastNumeric = 15;

struct Malformed {
  std::string problem;
};

template <typename T>
T ValueOf(Bytes bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

uint32_t Number(Bytes bytes) { return ValueOf<uint32_t>(bytes); }

// Returns the bytes of a value of an element's type, or 0 if the type holds no values.
size_t WidthOf(uint32_t type) {
  constexpr uint8_t kWidths[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8, 0, 0, 1, 2, 4};
  return type < std::size(kWidths) ? kWidths[type] : 0;
}

struct Element {
  uint32_t type = 0;
  Bytes data;
  bool is_small = false;  // the data lie in the tag itself
};

// Walks the elements that lie in `rest`, one after the other.
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

// A field of a synset: text or numbers, as many as its dimensions say.
struct Field {
  bool is_text = false;
  uint32_t type = 0;  // of the stored values, which may be smaller than the array's class
  Bytes values;       // empty for a field that was never assigned

  size_t width() const { return WidthOf(type); }
};

Field ReadField(Bytes matrix) {
  if (matrix.empty()) return {};
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
  return {array.array_class == kChar, values.type, values.data};
}

template <typename T>
std::optional<int64_t> WholeNumber(Bytes bytes) {
  constexpr double kMost = 1e15;  // every whole number below it is exact in a double
  const auto value = static_cast<double>(ValueOf<T>(bytes));
  if (!(std::abs(value) < kMost) || value != std::trunc(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

// Returns a field that is one whole number.
std::optional<int64_t> NumberOf(const Field& field) {
  if (field.is_text || field.values.empty() || field.values.size() != field.width()) {
    return std::nullopt;
  }
  switch (field.type) {
    case kInt8:
      return WholeNumber<int8_t>(field.values);
    case kUint8:
      return WholeNumber<uint8_t>(field.values);
    case kInt16:
      return WholeNumber<int16_t>(field.values);
    case kUint16:
      return WholeNumber<uint16_t>(field.values);
    case kInt32:
      return WholeNumber<int32_t>(field.values);
    case kUint32:
      return WholeNumber<uint32_t>(field.values);
    case kSingle:
      return WholeNumber<float>(field.values);
    case kDouble:
      return WholeNumber<double>(field.values);
    case kInt64:
      return WholeNumber<int64_t>(field.values);
    case kUint64:
      return WholeNumber<uint64_t>(field.values);
    default:
      return std::nullopt;
  }
}

// Appends a character as UTF-8. One outside of Unicode's first plane, or half of one, becomes '?'.
void AppendLetter(uint32_t letter, std::string& text) {
  if (letter > 0xFFFF || (letter >= 0xD800 && letter < 0xE000)) letter = '?';
  const auto put = [&text](uint32_t byte) { text += static_cast<char>(byte); };
  if (letter < 0x80) {
    put(letter);
  } else if (letter < 0x800) {
    put(0xC0 | letter >> 6);
    put(0x80 | (letter & 0x3F));
  } else {
    put(0xE0 | letter >> 12);
    put(0x80 | (letter >> 6 & 0x3F));
    put(0x80 | (letter & 0x3F));
  }
}

// Returns a field that is text, in UTF-8.
std::optional<std::string> TextOf(const Field& field) {
  if (!field.is_text) return std::nullopt;
  std::string text;
  for (size_t at = 0; at < field.values.size(); at += field.width()) {
    const Bytes unit = field.values.subspan(at, field.width());
    switch (unit.size()) {
      case 1:
        text += static_cast<char>(unit[0]);
        break;
      case 2:
        AppendLetter(ValueOf<uint16_t>(unit), text);
        break;
      case 4:
        AppendLetter(ValueOf<uint32_t>(unit), text);
        break;
      default:
        return std::nullopt;
    }
  }
  return text;
}

// Returns the names of a struct's fields, in order.
std::vector<std::string_view> ReadFieldNames(Elements& elements) {
  const Element name_bytes = elements.Next(kInt32);
  const Element names = elements.Next(kInt8);
  const Malformed malformed{"malformed names of fields"};
  if (!name_bytes.is_small || name_bytes.data.size() != 4 || names.is_small) throw malformed;
  const size_t bytes = Number(name_bytes.data);
  if (bytes == 0 || names.data.empty() || names.data.size() % bytes != 0) throw malformed;
  std::vector<std::string_view> result;
  for (size_t begin = 0; begin < names.data.size(); begin += bytes) {
    const std::string_view name(reinterpret_cast<const char*>(names.data.data()) + begin, bytes);
    if (name.back() != '\0') throw malformed;
    result.push_back(name.substr(0, name.find('\0')));
  }
  return result;
}

// Returns the classes without children. `elements` are what follows the name of `array`.
std::vector<Synset> ReadStructs(const Array& array, Elements elements) {
  if (array.array_class != kStruct) throw Malformed{"synsets is no struct"};
  const std::vector<std::string_view> names = ReadFieldNames(elements);
  size_t expected = 0;
  if (__builtin_mul_overflow(array.count, names.size(), &expected)) {
    throw Malformed{"dimensions that overflow"};
  }
  std::vector<Field> fields;
  while (!elements.AtEnd()) fields.push_back(ReadField(elements.Next(kMatrix).data));
  if (fields.size() != expected) {
    throw Malformed{fmt::format("{} synsets of {} fields, but {} values", array.count, names.size(),
                                fields.size())};
  }
  // "ILSVRC2012_ID", "ILSVRC2010_ID".
  const auto id_name = std::find_if(names.begin(), names.end(), [](std::string_view name) {
    return name.starts_with("ILSVRC") && name.ends_with("_ID");
  });
  if (id_name == names.end()) throw Malformed{"synsets has no field ILSVRC*_ID"};

  std::vector<Synset> classes;
  for (size_t i = 0; i < array.count; ++i) {
    const auto field = [&](std::string_view name) {
      const auto at = std::find(names.begin(), names.end(), name) - names.begin();
      return static_cast<size_t>(at) < names.size()
                 ? fields[i * names.size() + static_cast<size_t>(at)]
                 : Field{};
    };
    const std::optional<int64_t> id = NumberOf(field(*id_name));
    const std::optional<std::string> wnid = TextOf(field("WNID"));
    const std::optional<int64_t> children = NumberOf(field("num_children"));
    if (!id || !wnid || !children) {
      throw Malformed{fmt::format("synset {}: {}, WNID or num_children is missing", i + 1,
                                  Printable(*id_name))};
    }
    if (*children != 0) continue;
    classes.push_back({*id, std::string(Trim(*wnid)), TextOf(field("words")).value_or("")});
  }
  if (classes.empty()) throw Malformed{"no synset without children"};
  return classes;
}

std::vector<Synset> ReadVariables(Bytes mat) {
  if (mat.size() < kHeader || std::memcmp(mat.data() + kHeader - kVersionAndOrder.size(),
                                          kVersionAndOrder.data(), kVersionAndOrder.size()) != 0) {
    throw Malformed{"not a MAT file of version 5"};
  }
  Elements variables(mat.subspan(kHeader));
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
    if (array.name == "synsets") return ReadStructs(array, elements);
  }
  throw Malformed{"holds no struct named synsets"};
}

}  // namespace

std::vector<Synset> ReadSynsets(const std::vector<uint8_t>& mat, const std::string& name) {
  try {
    return ReadVariables(mat);
  } catch (const Malformed& malformed) {
    throw Error(ExitCode::kData, fmt::format("{}: {}", name, malformed.problem),
                "give --devkit the devkit as it was downloaded");
  }
}

}  // namespace convoy
