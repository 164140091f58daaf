#include "dataloader/archives/tar_writer.h"

#include <cstring>

#include "core/device/memory.h"
#include "core/error.h"
#include "dataloader/archives/tar.h"

namespace convoy {
namespace {

constexpr size_t kNameBytes = 100, kSizeAt = 124, kSizeBytes = 12, kChecksumAt = 148;

std::string Block(const std::string& name, int64_t bytes, char type) {
  std::string block(kTarBlock, '\0');
  const auto put = [&block](size_t at, const std::string& text) {
    std::memcpy(block.data() + at, text.data(), text.size());
  };
  put(0, name.substr(0, kNameBytes));
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  constexpr int64_t kOctalLimit = int64_t{1} << 33;
  if (bytes < kOctalLimit) {
    put(kSizeAt, fmt::format("{:011o}", bytes));
  } else {
    block[kSizeAt] = static_cast<char>(0x80);
    for (size_t i = 0; i < 8; ++i) {
      block[kSizeAt + kSizeBytes - 1 - i] = static_cast<char>(bytes >> (8 * i));
    }
  }
  put(136, "00000000000");  // always the same time: the same contents give the same archive
  put(kChecksumAt, "        ");
  block[156] = type;
  put(257, "ustar  ");  // GNU
  uint32_t sum = 0;
  for (const char c : block) sum += static_cast<uint8_t>(c);
  put(kChecksumAt, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return block;
}

}  // namespace

std::string TarHeader(const std::string& name, int64_t bytes) {
  if (name.size() <= kNameBytes) return Block(name, bytes, '0');
  const auto name_bytes = static_cast<int64_t>(name.size()) + 1;
  return Block("././@LongLink", name_bytes, 'L') + name + std::string(1, '\0') +
         TarPadding(name_bytes) + Block(name, bytes, '0');
}

std::string TarPadding(int64_t bytes) {
  return std::string(static_cast<size_t>(RoundUp(bytes, kTarBlock) - bytes), '\0');
}

std::string TarEnd() { return std::string(2 * kTarBlock, '\0'); }

void TarWriter::Add(const std::string& name, const void* content, int64_t bytes) {
  Append(TarHeader(name, bytes));
  file_.Write(content, bytes);
  Append(TarPadding(bytes));
}

void TarWriter::Append(const std::string& part) {
  file_.Write(part.data(), static_cast<int64_t>(part.size()));
}

void TarWriter::Overwrite(int64_t offset, const std::string& part) {
  file_.WriteAt(offset, part.data(), static_cast<int64_t>(part.size()));
}

void TarWriter::Commit() {
  Append(TarEnd());
  file_.Commit();
}

}  // namespace convoy
