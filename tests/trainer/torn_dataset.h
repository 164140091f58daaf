// tests/trainer/torn_dataset.h - a data set of which some images cannot be read.
#pragma once

#include <string>
#include <vector>

#include "core/error.h"
#include "dataloader/dataset.h"

namespace convoy {

// Plain grey images of 8 x 8 pixels, in one class. Every tenth cannot be read.
class TornDataset final : public Dataset {
 public:
  explicit TornDataset(int64_t size) : size_(size) {}

  int64_t size() const override { return size_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int32_t Label(int64_t) const override { return 0; }
  std::string Name(int64_t sample) const override { return fmt::format("c/{}", sample); }
  std::string Location(int64_t sample) const override { return fmt::format("place {}", sample); }
  void Read(int64_t sample, EncodedSample& into) const override {
    if (sample % 10 == 0) throw Error(ExitCode::kDisk, "torn");
    into.height = into.width = 8;
    into.channels = 1;
    into.bytes.assign(64, 100);
  }
  std::string Describe() const override { return "torn"; }

 private:
  int64_t size_;
  std::vector<std::string> classes_ = {"c"};
};

}  // namespace convoy
