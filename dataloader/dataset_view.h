// dataloader/dataset_view.h - data sets that are made of another one: a part of it, for example.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataloader/dataset.h"

namespace convoy {

// Passes every call on to another data set. Derived classes override what differs.
class DatasetView : public Dataset {
 public:
  int64_t size() const override { return whole_->size(); }
  const std::vector<std::string>& classes() const override { return whole_->classes(); }
  int32_t Label(int64_t sample) const override { return whole_->Label(InWhole(sample)); }
  std::string Name(int64_t sample) const override { return whole_->Name(InWhole(sample)); }
  std::string Location(int64_t sample) const override { return whole_->Location(InWhole(sample)); }
  std::vector<std::string> Archives() const override { return whole_->Archives(); }
  std::optional<int64_t> FileBytes(int64_t sample) const override {
    return whole_->FileBytes(InWhole(sample));
  }
  void Read(int64_t sample, EncodedSample& into) const override {
    whole_->Read(InWhole(sample), into);
  }
  void ReadForSide(int64_t sample, int side, EncodedSample& into) const override {
    whole_->ReadForSide(InWhole(sample), side, into);
  }
  void WillRead(int64_t sample) const override { whole_->WillRead(InWhole(sample)); }
  std::string Describe() const override { return whole_->Describe(); }
  const LeftOut& left_out() const override { return whole_->left_out(); }

 protected:
  explicit DatasetView(std::shared_ptr<const Dataset> whole) : whole_(std::move(whole)) {}

 private:
  // Returns the sample of the whole data set that this one shows as `sample`.
  virtual int64_t InWhole(int64_t sample) const { return sample; }

  const std::shared_ptr<const Dataset> whole_;
};

struct DatasetSplit {
  std::shared_ptr<const Dataset> training, held_out;
};

// Holds out about `share` (above 0, below 1) of the samples. Whether a sample is held out is a
// function of its "class/file" name without the extension. It depends on no other sample and on no
// order or form of the archive, so images that are added later change nothing for the others. Both
// parts have all classes, and their samples in the order of `dataset`. Throws (kUsage) if one part
// would be empty.
DatasetSplit SplitByName(const std::shared_ptr<const Dataset>& dataset, double share);

}  // namespace convoy
