#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/dataset_view.h"
#include "dataloader/sources/shards.h"

namespace convoy {
namespace {

// Some samples of another data set.
class PartOfDataset final : public DatasetView {
 public:
  PartOfDataset(std::shared_ptr<const Dataset> whole, std::vector<int64_t> samples,
                std::string what)
      : DatasetView(std::move(whole)), samples_(std::move(samples)), what_(std::move(what)) {}

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  std::string Describe() const override {
    return fmt::format("{}; {} of them {}", DatasetView::Describe(), FormatCount(size()), what_);
  }

 private:
  int64_t InWhole(int64_t sample) const override {
    return samples_.at(static_cast<size_t>(sample));
  }

  const std::vector<int64_t> samples_;
  const std::string what_;
};

// Returns a number in [0, 1) that belongs to a sample, and stays the same when it is packed.
double PlaceOf(const std::string& name) {
  const std::string key =
      fmt::format("{}/{}", FolderOf(name), UnpackedShardStem(std::string(BaseOf(name))));
  return static_cast<double>(Hash64(key) >> 11) * 0x1p-53;
}

}  // namespace

DatasetSplit SplitByName(const std::shared_ptr<const Dataset>& dataset, double share) {
  CONVOY_CHECK(share > 0 && share < 1, "{} of a data set", share);
  std::vector<int64_t> training, held_out;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    (PlaceOf(dataset->Name(i)) < share ? held_out : training).push_back(i);
  }
  if (training.empty() || held_out.empty()) {
    throw Error(ExitCode::kUsage,
                fmt::format("--val-split {}: of {} images {} would be for training and {} for "
                            "validation, one at least expected of each",
                            share, dataset->size(), training.size(), held_out.size()),
                "give another share, or a validation set with --val");
  }
  return {std::make_shared<PartOfDataset>(dataset, std::move(training), "for training"),
          std::make_shared<PartOfDataset>(dataset, std::move(held_out), "held out")};
}

}  // namespace convoy
