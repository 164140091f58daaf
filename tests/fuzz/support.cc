#include "tests/fuzz/support.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/hash.h"

namespace convoy::fuzz {

namespace fs = std::filesystem;

uint8_t Input::Byte() {
  const std::string_view byte = Take(1);
  return byte.empty() ? 0 : static_cast<uint8_t>(byte[0]);
}

uint16_t Input::Word() {
  const unsigned low = Byte(), high = Byte();
  return static_cast<uint16_t>(low | high << 8);
}

std::string_view Input::Take(size_t bytes) {
  const std::string_view piece = rest_.substr(0, bytes);
  rest_.remove_prefix(piece.size());
  return piece;
}

void Require(bool condition, const char* what) {
  if (condition) return;
  fmt::print(stderr, "fuzz: {}\n", what);
  std::abort();
}

void RequireRefusal(const Error& error) {
  const std::string text = error.what();
  const bool is_line =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) >= 0x20; });
  if (error.exit_code() == ExitCode::kData || error.exit_code() == ExitCode::kDisk) {
    if (is_line) return;
  }
  fmt::print(stderr, "fuzz: exit code {}: {}\n", static_cast<int>(error.exit_code()), text);
  std::abort();
}

void Overwrite(const std::string& path, const void* data, size_t bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  const bool is_written = file >= 0 &&
                          pwrite(file, data, bytes, 0) == static_cast<ssize_t>(bytes) &&
                          ftruncate(file, static_cast<off_t>(bytes)) == 0;
  if (file >= 0) close(file);
  Require(is_written, "a file could not be written");
}

const std::string& Folder() {
  struct Made {
    Made() : path((fs::temp_directory_path() / fmt::format("convoy-fuzz-{}", getpid())).string()) {
      fs::create_directories(path);
    }
    ~Made() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
    std::string path;
  };
  static const Made folder;
  return folder.path;
}

std::string WriteFile(const std::string& name, std::string_view contents) {
  const fs::path path = fs::path(Folder()) / name;
  fs::create_directories(path.parent_path());
  Overwrite(path.string(), contents.data(), contents.size());
  return path.string();
}

std::string Checked(std::string_view magic, uint32_t version, std::string_view payload) {
  std::string file(magic);
  file.append(reinterpret_cast<const char*>(&version), sizeof(version));
  file += payload;
  const uint64_t digest = Hash64(file);
  file.append(reinterpret_cast<const char*>(&digest), sizeof(digest));
  return file;
}

std::string WithTarChecksums(std::string_view tar) {
  constexpr size_t kBlock = 512, kChecksum = 148, kChecksumBytes = 8, kMagic = 257;
  std::string repaired(tar);
  for (size_t block = 0; block + kBlock <= repaired.size(); block += kBlock) {
    if (repaired.compare(block + kMagic, 5, "ustar") != 0) continue;
    char* field = repaired.data() + block + kChecksum;
    std::memset(field, ' ', kChecksumBytes);
    unsigned sum = 0;
    for (size_t i = 0; i < kBlock; ++i) sum += static_cast<uint8_t>(repaired[block + i]);
    // Six octal digits, a zero, a blank.
    for (int digit = 5; digit >= 0; --digit, sum /= 8) {
      field[digit] = static_cast<char>('0' + sum % 8);
    }
    field[6] = '\0';
  }
  return repaired;
}

Log& QuietLog() {
  static Log log(LogLevel::kSilent);
  return log;
}

}  // namespace convoy::fuzz
