#include "dataloader/archives/tar.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "core/device/memory.h"
#include "core/text.h"
#include "dataloader/archives/names.h"

namespace convoy {
namespace {

constexpr int64_t kLongestName = 32 << 10;
constexpr int64_t kLongestPax = 1 << 20;
// Writers pad archives to whole records. More bytes than this after the end mark are something
// else.
constexpr int64_t kLongestTail = 1 << 20;

struct Field {
  int offset, bytes;
};
constexpr Field kName{0, 100}, kSize{124, 12}, kChecksum{148, 8}, kMagic{257, 6}, kPrefix{345, 155};
constexpr int kType = 156;

std::string_view Text(const uint8_t* block, Field field) {
  const char* text = reinterpret_cast<const char*>(block) + field.offset;
  return {text, strnlen(text, static_cast<size_t>(field.bytes))};
}

// Reads octal digits, or a big-endian number of base 256 if the first bit is set.
std::optional<int64_t> Number(const uint8_t* block, Field field) {
  const uint8_t* bytes = block + field.offset;
  if (bytes[0] & 0x80) {
    if (bytes[0] & 0x40) return std::nullopt;  // negative
    int64_t value = bytes[0] & 0x3F;
    for (int i = 1; i < field.bytes; ++i) {
      if (value > (std::numeric_limits<int64_t>::max() >> 8)) return std::nullopt;
      value = value * 256 + bytes[i];
    }
    return value;
  }
  std::string_view digits = Text(block, field);
  while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
  while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
  int64_t value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '7') return std::nullopt;
    value = value * 8 + (digit - '0');  // at most 12 digits: 36 bits
  }
  return value;
}

bool IsZero(const uint8_t (&block)[kTarBlock]) {
  return std::all_of(std::begin(block), std::end(block), [](uint8_t byte) { return byte == 0; });
}

}  // namespace

bool IsTarHeader(const uint8_t (&block)[kTarBlock]) {
  const std::optional<int64_t> stated = Number(block, kChecksum);
  if (!stated || IsZero(block)) return false;
  int64_t sum = 0, signed_sum = 0;  // some old writers added signed bytes
  for (int i = 0; i < kTarBlock; ++i) {
    const bool inside = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.bytes;
    const uint8_t byte = inside ? uint8_t{' '} : block[i];
    sum += byte;
    signed_sum += static_cast<int8_t>(byte);
  }
  return *stated == sum || *stated == signed_sum;
}

std::optional<int64_t> TarHeaderSize(const uint8_t (&block)[kTarBlock]) {
  return Number(block, kSize);
}

// What extended headers say about the member that follows them.
struct TarReader::Extended {
  std::optional<std::string> name;
  std::optional<int64_t> bytes;
};

TarReader::TarReader(const ByteSource& source, int64_t begin, int64_t end, std::string label)
    : source_(source), position_(begin), end_(end), label_(std::move(label)) {
  CONVOY_CHECK(0 <= begin && begin <= end && end <= source.size(), "[{}, {}) of {}", begin, end,
               source.size());
}

TarReader::TarReader(const ByteSource& source)
    : TarReader(source, 0, source.size(), source.name()) {}

void TarReader::Refuse(int64_t header, const std::string& problem) const {
  throw Error(ExitCode::kData, fmt::format("{}, header at byte {}: {}", label_, header, problem),
              "the archive is damaged, incomplete or unusual: download or pack it again");
}

std::string TarReader::ReadPayload(int64_t header, int64_t bytes, int64_t limit) {
  if (bytes > limit) {
    Refuse(header, fmt::format("extended header of {} bytes, at most {} expected", bytes, limit));
  }
  std::string payload(static_cast<size_t>(bytes), '\0');
  source_.ReadAt(header + kTarBlock, payload.data(), bytes);
  return payload;
}

// Reads records "LENGTH KEY=VALUE\n".
void TarReader::ParsePax(int64_t header, const std::string& records, Extended& extended) const {
  std::string_view rest = records;
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    const std::optional<int64_t> length =
        space == std::string_view::npos ? std::nullopt : ParseInteger(rest.substr(0, space));
    if (!length || *length <= static_cast<int64_t>(space) + 1 ||
        *length > static_cast<int64_t>(rest.size()) ||
        rest[static_cast<size_t>(*length) - 1] != '\n') {
      Refuse(header, "malformed pax record");
    }
    const std::string_view record =
        rest.substr(space + 1, static_cast<size_t>(*length) - space - 2);
    rest.remove_prefix(static_cast<size_t>(*length));
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) Refuse(header, "malformed pax record");
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key == "path") {
      extended.name = std::string(value);
    } else if (key == "size") {
      extended.bytes = ParseInteger(value);
      if (!extended.bytes || *extended.bytes < 0) {
        Refuse(header, fmt::format("pax size \"{}\"", Printable(value)));
      }
    } else if (key == "linkpath" || key.starts_with("GNU.sparse")) {
      Refuse(header,
             fmt::format("pax record {}: links and sparse files are not read", Printable(key)));
    }
  }
}

std::string TarReader::CleanName(int64_t header, const std::string& name) const {
  if (name.starts_with('/')) Refuse(header, fmt::format("absolute name {}", Printable(name)));
  std::string clean;
  for (const std::string& part : Split(name, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") Refuse(header, fmt::format("\"..\" in the name {}", Printable(name)));
    for (const char c : part) {
      if (static_cast<unsigned char>(c) < 0x20) {
        Refuse(header, fmt::format("control character in the name {}", Printable(name)));
      }
    }
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  return clean;
}

void TarReader::CheckEnd() const {
  if (end_ - position_ <= kLongestTail) return;
  Refuse(position_, fmt::format("the archive ends here, but {} bytes follow", end_ - position_));
}

bool TarReader::Next(TarMember& member) {
  Extended extended;
  while (true) {
    if (end_ - position_ < kTarBlock) {
      Refuse(position_, fmt::format("the archive stops at byte {} without its end mark", end_));
    }
    const int64_t header = position_;
    uint8_t block[kTarBlock];
    source_.ReadAt(header, block, kTarBlock);
    if (IsZero(block)) {
      CheckEnd();
      return false;
    }
    if (!IsTarHeader(block)) Refuse(header, "wrong checksum");

    const char type = static_cast<char>(block[kType]);
    std::string name(Text(block, kName));
    if (Text(block, kMagic) == "ustar" && block[kPrefix.offset] != 0) {
      name = fmt::format("{}/{}", Text(block, kPrefix), name);
    }
    const bool is_extended = type == 'L' || type == 'x' || type == 'g';
    if (extended.name && !is_extended) name = *extended.name;
    const bool is_folder = type == '5' || (type == '\0' && name.ends_with('/'));
    std::optional<int64_t> bytes = TarHeaderSize(block);
    if (extended.bytes && !is_extended) bytes = extended.bytes;
    if (!bytes) Refuse(header, fmt::format("member {}: malformed size", Printable(name)));
    if (is_folder) bytes = 0;
    if (*bytes > end_ - header - kTarBlock) {
      Refuse(header, fmt::format("member {} of {} bytes, but the archive ends at byte {}",
                                 Printable(name), *bytes, end_));
    }
    position_ = header + kTarBlock + RoundUp(*bytes, kTarBlock);

    switch (type) {
      case 'L': {
        std::string long_name = ReadPayload(header, *bytes, kLongestName);
        long_name.resize(strnlen(long_name.data(), long_name.size()));
        extended.name = std::move(long_name);
        continue;
      }
      case 'x':
        ParsePax(header, ReadPayload(header, *bytes, kLongestPax), extended);
        continue;
      case 'g': {
        Extended global;
        ParsePax(header, ReadPayload(header, *bytes, kLongestPax), global);
        if (global.name || global.bytes) Refuse(header, "one path or size for all members");
        continue;
      }
      case 'V':  // the label of a GNU volume
        continue;
      case '\0':
      case '0':
      case '7':
      case '5':
        break;
      default:
        Refuse(header, fmt::format("member {} is a {}", Printable(name),
                                   type == '1' || type == '2' || type == 'K' ? "link"
                                   : type == '3' || type == '4' || type == '6'
                                       ? "device"
                                       : fmt::format("member of unknown type {:#04x}",
                                                     static_cast<unsigned char>(type))));
    }
    member.name = CleanName(header, name);
    if (member.name.empty()) {
      if (is_folder) {  // "./"
        extended = {};
        continue;
      }
      Refuse(header, "member without a name");
    }
    member.header = header;
    member.offset = header + kTarBlock;
    member.bytes = *bytes;
    member.is_folder = is_folder;
    return true;
  }
}

}  // namespace convoy
