// Runs a fuzz target without libFuzzer: on the files that are given, or those of folders, and on
// mutations of each, the same ones in every run.
//
//   NAME_fuzz [--mutations N] PATH...
//
// The input in hand is kept in NAME_fuzz.input, which stays if the program ends early.
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

// The limits of the nightly run.
constexpr unsigned kLongestSeconds = 20;
constexpr int64_t kMostMemoryKib = 2 << 20;
constexpr size_t kLongestInput = 16 << 10;

class Mutator {
 public:
  Bytes Mutate(const Bytes& from) {
    Bytes bytes = from;
    for (uint64_t steps = 1 + Below(3); steps > 0; --steps) Step(bytes);
    if (bytes.size() > kLongestInput) bytes.resize(kLongestInput);
    return bytes;
  }

 private:
  uint64_t Below(uint64_t end) { return random_() % end; }

  void Step(Bytes& bytes) {
    if (bytes.empty()) {
      bytes.push_back(static_cast<uint8_t>(Below(256)));
      return;
    }
    const auto at = static_cast<std::ptrdiff_t>(Below(bytes.size()));
    const auto count = static_cast<std::ptrdiff_t>(
        1 + Below(std::min<uint64_t>(bytes.size() - static_cast<size_t>(at), 64)));
    const auto first = bytes.begin() + at;
    switch (Below(6)) {
      case 0:
        *first = static_cast<uint8_t>(*first ^ (1u << Below(8)));
        break;
      case 1:
        *first = static_cast<uint8_t>(Below(256));
        break;
      case 2:
        bytes.erase(first, Below(4) == 0 ? bytes.end() : first + count);
        break;
      case 3: {
        const Bytes block(first, first + count);
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(Below(bytes.size() + 1)),
                     block.begin(), block.end());
        break;
      }
      case 4:
        bytes.insert(first, static_cast<size_t>(count), static_cast<uint8_t>(Below(256)));
        break;
      default:
        PutNumber(bytes, static_cast<size_t>(at));
    }
  }

  // Puts in a number at the edge of its type, in either order of bytes.
  void PutNumber(Bytes& bytes, size_t at) {
    constexpr uint64_t kNumbers[] = {0,           1,          0x7F,       0x80,
                                     0xFF,        0x7FFF,     0x8000,     0xFFFF,
                                     0x7FFFFFFF,  0x80000000, 0xFFFFFFFF, uint64_t{1} << 62,
                                     ~uint64_t{0}};
    const uint64_t number = kNumbers[Below(std::size(kNumbers))];
    const size_t width = std::min(size_t{1} << Below(4), bytes.size() - at);
    const bool is_big_endian = Below(2) == 0;
    for (size_t i = 0; i < width; ++i) {
      const size_t place = is_big_endian ? width - 1 - i : i;
      bytes[at + place] = static_cast<uint8_t>(number >> (8 * i));
    }
  }

  std::mt19937_64 random_{2012};
};

class Replay {
 public:
  explicit Replay(std::string kept_path) : kept_path_(std::move(kept_path)) {}

  void Run(const Bytes& bytes) {
    convoy::fuzz::Overwrite(kept_path_, bytes.data(), bytes.size());
    alarm(kLongestSeconds);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    alarm(0);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    if (usage.ru_maxrss > kMostMemoryKib) {
      fmt::print(stderr, "fuzz: {} KiB of memory\n", usage.ru_maxrss);
      std::abort();
    }
    ++inputs_;
  }

  void Finish() const {
    fs::remove(kept_path_);
    fmt::print("{} inputs\n", inputs_);
  }

 private:
  std::string kept_path_;
  int64_t inputs_ = 0;
};

std::vector<fs::path> FilesOf(const std::vector<std::string>& paths) {
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    if (!fs::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  int64_t mutations = 0;
  std::vector<std::string> paths;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--mutations") == 0 && i + 1 < argc) {
      mutations = std::strtoll(argv[++i], nullptr, 10);
    } else {
      paths.emplace_back(argv[i]);
    }
  }
  const std::vector<fs::path> files = FilesOf(paths);
  if (files.empty()) {
    fmt::print(stderr, "usage: {} [--mutations N] PATH...\n", argv[0]);
    return 2;
  }
  Replay replay(fs::path(argv[0]).filename().string() + ".input");
  Mutator mutator;
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    const Bytes bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file) {
      fmt::print(stderr, "{} cannot be read\n", path.string());
      return 2;
    }
    replay.Run(bytes);
    for (int64_t i = 0; i < mutations; ++i) replay.Run(mutator.Mutate(bytes));
  }
  replay.Finish();
  return 0;
}
