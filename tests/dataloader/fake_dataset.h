// tests/dataloader/fake_dataset.h - a data set in memory, whose samples can be bad on purpose.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/dataloader/support.h"

namespace convoy::testing {

// `count` small JPEGs of different sizes in `classes` classes, in the order of their names.
class FakeDataset final : public Dataset {
 public:
  explicit FakeDataset(int64_t count, int32_t classes = 3)
      : count_(count), classes_count_(classes) {
    for (int32_t label = 0; label < classes; ++label) {
      classes_.push_back(fmt::format("n{:02}", label));
    }
    for (uint32_t i = 0; i < kKinds; ++i) {
      const int width = 40 + static_cast<int>(7 * i), height = 70 - static_cast<int>(5 * i);
      files_.push_back(MakeJpeg(width, height, i, {.h = 1 + static_cast<int>(i % 2)}));
    }
  }

  // Called before a sample is read; may throw, or overwrite the bytes.
  std::function<void(int64_t sample, std::vector<uint8_t>& bytes)> on_read;

  int64_t size() const override { return count_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int32_t Label(int64_t sample) const override {
    return static_cast<int32_t>(sample * classes_count_ / count_);
  }
  std::string Name(int64_t sample) const override {
    return fmt::format("{}/{:06}.JPEG", classes_[static_cast<size_t>(Label(sample))], sample);
  }
  std::string Location(int64_t sample) const override {
    return fmt::format("fake.tar at byte {}", 1000 * sample);
  }
  void Read(int64_t sample, EncodedSample& into) const override {
    into.height = into.width = into.channels = 0;
    const std::string& file = files_[static_cast<size_t>(sample) % kKinds];
    into.bytes.assign(file.begin(), file.end());
    if (on_read) on_read(sample, into.bytes);
  }
  std::string Describe() const override { return fmt::format("fake: {} images", count_); }

 private:
  static constexpr size_t kKinds = 6;
  int64_t count_;
  int32_t classes_count_;
  std::vector<std::string> classes_, files_;
};

// Returns options of a small crop with everything drawn.
inline LoaderOptions SmallOptions(int64_t global_batch) {
  LoaderOptions options;
  options.seed = 77;
  options.global_batch = global_batch;
  options.crop = {.geometry = Geometry::kSquare2012,
                  .resize = 32,
                  .crop = 28,
                  .colour = ColourNoise::k2012,
                  .colour_strength = [](int64_t epoch) { return epoch < 2 ? 0.1 : 0.0; }};
  return options;
}

}  // namespace convoy::testing
