#include "trainer/run/validation_classes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace convoy {
namespace {

using Names = std::vector<std::string>;

// One sample per class, in the order of the classes.
class OneOfEach final : public Dataset {
 public:
  explicit OneOfEach(Names classes) : classes_(std::move(classes)) {}
  int64_t size() const override { return std::ssize(classes_); }
  const Names& classes() const override { return classes_; }
  int32_t Label(int64_t sample) const override { return static_cast<int32_t>(sample); }
  std::string Name(int64_t sample) const override {
    return classes_.at(static_cast<size_t>(sample)) + "/x";
  }
  std::string Location(int64_t) const override { return "here"; }
  std::vector<std::string> Archives() const override { return {"here.tar"}; }
  std::optional<int64_t> FileBytes(int64_t sample) const override { return 10 * sample; }
  const LeftOut& left_out() const override { return left_out_; }
  void Read(int64_t sample, EncodedSample& into) const override {
    into.bytes = {static_cast<uint8_t>(sample)};
  }
  std::string Describe() const override { return "a set"; }

 private:
  const LeftOut left_out_ = [] {
    LeftOut left_out;
    left_out.AddFile("a.webp");
    return left_out;
  }();
  const Names classes_;
};

// The names of the training classes that the samples of a set of `validation` classes get.
Names Labelled(const Names& validation, const Names& training) {
  const auto set = WithClassesOfTraining(std::make_shared<OneOfEach>(validation), "val", training);
  EXPECT_EQ(set->classes(), training);
  EXPECT_EQ(set->size(), std::ssize(validation));
  EXPECT_EQ(set->Archives(), Names{"here.tar"});
  EXPECT_EQ(set->left_out().count(), 1);
  Names names;
  for (int64_t i = 0; i < set->size(); ++i) {
    names.push_back(training.at(static_cast<size_t>(set->Label(i))));
    EncodedSample sample;
    set->Read(i, sample);
    EXPECT_EQ(sample.bytes, std::vector<uint8_t>{static_cast<uint8_t>(i)});
    EXPECT_EQ(set->Name(i), validation[static_cast<size_t>(i)] + "/x");
    EXPECT_EQ(set->Location(i), "here");
    EXPECT_EQ(set->FileBytes(i), 10 * i);
  }
  return names;
}

TEST(WithClassesOfTraining, LabelsGoByTheNamesOfTheClasses) {
  for (const Names& validation :
       {Names{"a", "b", "c"}, Names{"a", "c"}, Names{"b", "c"}, Names{"c"}, Names{"a", "b"}}) {
    EXPECT_EQ(Labelled(validation, {"a", "b", "c"}), validation);
  }
}

TEST(WithClassesOfTraining, SaysWhichClassesHaveNoImage) {
  const auto describe = [](const Names& validation) {
    return WithClassesOfTraining(std::make_shared<OneOfEach>(validation), "val", {"a", "b", "c"})
        ->Describe();
  };
  EXPECT_EQ(describe({"a", "b", "c"}), "a set");
  EXPECT_EQ(describe({"a", "c"}), "a set; none of class b");
  EXPECT_EQ(describe({"c"}), "a set; none of 2 classes of the training images");
}

TEST(WithClassesOfTraining, AClassThatTheNetworkDoesNotKnowIsAnError) {
  try {
    WithClassesOfTraining(std::make_shared<OneOfEach>(Names{"a", "d"}), "photos:val",
                          {"a", "b", "c"});
    ADD_FAILURE() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kData);
    EXPECT_EQ(error.message(),
              "class d of photos:val is none of the 3 classes of the training images");
  }
}

}  // namespace
}  // namespace convoy
