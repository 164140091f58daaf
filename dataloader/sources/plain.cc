#include "dataloader/sources/plain.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

class PlainDataset final : public Dataset {
 public:
  explicit PlainDataset(PlainSource source)
      : source_(std::move(source)), order_(source_.labels.size()) {
    std::iota(order_.begin(), order_.end(), 0u);
    std::vector<std::string> class_paths;
    for (const std::string& name : source_.classes) class_paths.push_back(name + "/");
    const auto path = [&](uint32_t image) -> const std::string& {
      return class_paths[static_cast<size_t>(source_.labels[image])];
    };
    std::stable_sort(order_.begin(), order_.end(),
                     [&](uint32_t a, uint32_t b) { return path(a) < path(b); });
    digits_ = std::to_string(std::max<int64_t>(size() - 1, 0)).size();
  }

  int64_t size() const override { return static_cast<int64_t>(order_.size()); }
  const std::vector<std::string>& classes() const override { return source_.classes; }
  int32_t Label(int64_t sample) const override { return source_.labels[Image(sample)]; }
  std::string Name(int64_t sample) const override {
    const size_t image = Image(sample);
    return fmt::format("{}/{:0{}}", source_.classes[static_cast<size_t>(source_.labels[image])],
                       image, digits_);
  }
  std::string Location(int64_t sample) const override {
    return source_.location(static_cast<int64_t>(Image(sample)));
  }
  std::vector<std::string> Archives() const override { return source_.files; }
  void Read(int64_t sample, EncodedSample& into) const override {
    into.height = source_.height;
    into.width = source_.width;
    into.channels = source_.channels;
    const size_t bytes = static_cast<size_t>(source_.height) * static_cast<size_t>(source_.width) *
                         static_cast<size_t>(source_.channels);
    into.bytes.resize(bytes);
    std::memcpy(into.bytes.data(), source_.pixels.data() + Image(sample) * bytes, bytes);
  }
  std::string Describe() const override {
    return fmt::format("{}: {} images of {} x {} in {} classes", source_.description,
                       FormatCount(size()), source_.width, source_.height, source_.classes.size());
  }

 private:
  size_t Image(int64_t sample) const { return order_.at(static_cast<size_t>(sample)); }

  PlainSource source_;
  std::vector<uint32_t> order_;  // sample -> image
  size_t digits_ = 1;
};

}  // namespace

std::unique_ptr<Dataset> MakePlainDataset(PlainSource source) {
  if (source.labels.empty()) {
    throw Error(ExitCode::kData, fmt::format("{} holds no image", source.description),
                "the files are empty: download them again");
  }
  const auto classes = static_cast<int64_t>(source.classes.size());
  for (size_t i = 0; i < source.labels.size(); ++i) {
    if (source.labels[i] < 0 || source.labels[i] >= classes) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: image {} has label {}, at most {} expected", source.description,
                              i, source.labels[i], classes - 1),
                  "the labels are of another data set, or damaged");
    }
  }
  return std::make_unique<PlainDataset>(std::move(source));
}

std::vector<std::string> NumberNames(int64_t count) {
  const size_t digits = std::to_string(std::max<int64_t>(count - 1, 0)).size();
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(fmt::format("{:0{}}", i, digits));
  return names;
}

}  // namespace convoy
