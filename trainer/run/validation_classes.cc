#include "trainer/run/validation_classes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "core/error.h"
#include "dataloader/dataset_view.h"

namespace convoy {
namespace {

// Another data set with other numbers for its classes.
class Relabelled final : public DatasetView {
 public:
  // `labels`: by label of `dataset`.
  Relabelled(std::shared_ptr<const Dataset> dataset, std::vector<std::string> classes,
             std::vector<int32_t> labels, std::string without)
      : DatasetView(std::move(dataset)),
        classes_(std::move(classes)),
        labels_(std::move(labels)),
        without_(std::move(without)) {}

  const std::vector<std::string>& classes() const override { return classes_; }
  int32_t Label(int64_t sample) const override {
    return labels_.at(static_cast<size_t>(DatasetView::Label(sample)));
  }
  std::string Describe() const override {
    return fmt::format("{}; none of {}", DatasetView::Describe(), without_);
  }

 private:
  const std::vector<std::string> classes_;
  const std::vector<int32_t> labels_;
  const std::string without_;  // "class b", "3 classes of the training images"
};

// What `training` has and `found` has not.
std::string DescribeMissing(const std::vector<std::string>& training,
                            const std::vector<std::string>& found) {
  std::vector<std::string> missing;
  for (const std::string& name : training) {
    if (std::find(found.begin(), found.end(), name) == found.end()) missing.push_back(name);
  }
  return missing.size() == 1 ? fmt::format("class {}", missing[0])
                             : fmt::format("{} classes of the training images", missing.size());
}

}  // namespace

std::shared_ptr<const Dataset> WithClassesOfTraining(std::shared_ptr<const Dataset> dataset,
                                                     const std::string& location,
                                                     const std::vector<std::string>& training) {
  const std::vector<std::string>& found = dataset->classes();
  if (found == training) return dataset;
  std::map<std::string, int32_t> label_of;
  for (size_t i = 0; i < training.size(); ++i) {
    label_of.emplace(training[i], static_cast<int32_t>(i));
  }
  std::vector<int32_t> labels;
  for (const std::string& name : found) {
    const auto known = label_of.find(name);
    if (known == label_of.end()) {
      throw Error(ExitCode::kData,
                  fmt::format("class {} of {} is none of the {} classes of the training images",
                              name, location, training.size()),
                  "name class folders as those of the training images; a class may be left out");
    }
    labels.push_back(known->second);
  }
  return std::make_shared<Relabelled>(dataset, training, std::move(labels),
                                      DescribeMissing(training, found));
}

}  // namespace convoy
