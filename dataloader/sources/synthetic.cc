// Noise, for runs that measure everything but reading and decoding.
#include <cstring>
#include <optional>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "dataloader/sources/plain.h"
#include "dataloader/sources/sources.h"

namespace convoy {
namespace {

constexpr int64_t kMostClasses = 1 << 20;
constexpr int kSide = 256;  // pixels, for callers that ask for no size

// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
// 2014): far cheaper than Philox, which only seeds it here.
uint64_t NextWord(uint64_t& state) {
  state += 0x9E3779B97F4A7C15;
  uint64_t word = state;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EB;
  return word ^ (word >> 31);
}

class SyntheticDataset final : public Dataset {
 public:
  SyntheticDataset(int64_t images, int64_t classes)
      : images_(images), classes_(NumberNames(classes)) {}

  int64_t size() const override { return images_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int32_t Label(int64_t sample) const override {
    return static_cast<int32_t>(ToBelow(Words(sample)[2], static_cast<uint32_t>(classes_.size())));
  }
  std::string Name(int64_t sample) const override {
    return fmt::format("synthetic/{:012}", sample);
  }
  std::string Location(int64_t sample) const override {
    return fmt::format("synthetic image {}", sample);
  }
  void Read(int64_t sample, EncodedSample& into) const override {
    ReadForSide(sample, kSide, into);
  }
  void ReadForSide(int64_t sample, int side, EncodedSample& into) const override {
    into.height = into.width = side;
    into.channels = 3;
    const size_t bytes = static_cast<size_t>(into.height) * static_cast<size_t>(into.width) * 3;
    into.bytes.resize(bytes);
    const RandomWords words = Words(sample);
    uint64_t state = (static_cast<uint64_t>(words[0]) << 32) | words[1];
    size_t done = 0;
    for (; done + 8 <= bytes; done += 8) {
      const uint64_t word = NextWord(state);
      std::memcpy(into.bytes.data() + done, &word, 8);
    }
    const uint64_t word = NextWord(state);
    if (done < bytes) std::memcpy(into.bytes.data() + done, &word, bytes - done);
  }
  std::string Describe() const override {
    return fmt::format("synthetic: {} images of noise in {} classes", FormatCount(images_),
                       FormatCount(static_cast<int64_t>(classes_.size())));
  }

 private:
  static RandomWords Words(int64_t sample) {
    return RandomBlock({.purpose = Purpose::kSynthetic, .position = static_cast<uint64_t>(sample)});
  }

  int64_t images_;
  std::vector<std::string> classes_;
};

}  // namespace

std::unique_ptr<Dataset> OpenSynthetic(const std::string& location) {
  const std::vector<std::string> parts =
      Split(std::string_view(location).substr(location.find(':') + 1), 'x');
  const std::optional<int64_t> images = ParseInteger(parts[0]);
  const std::optional<int64_t> classes =
      parts.size() == 2 ? ParseInteger(parts[1]) : std::optional<int64_t>(1000);
  if (parts.size() > 2 || !images || !classes || *images < 1 || *images >= (int64_t{1} << 44) ||
      *classes < 1 || *classes > kMostClasses) {
    throw Error(ExitCode::kUsage, fmt::format("{}: not a number of images", location),
                "write synthetic:N or synthetic:NxCLASSES, for example synthetic:10000x1000");
  }
  return std::make_unique<SyntheticDataset>(*images, *classes);
}

}  // namespace convoy
