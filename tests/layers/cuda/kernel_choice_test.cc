// Which kernel computes a product, with kernels that only pretend.
#include "layers/cuda/products/kernel_choice.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace convoy::cuda {
namespace {

const char* const kProduct = "conv2 forward bf16";

class FakeProduct final : public BoundProduct {
 public:
  FakeProduct(std::string name, int* runs) : name_(std::move(name)), runs_(runs) {}
  void Run(Stream&) override { ++*runs_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int* runs_;
};

const std::string& NameOf(const BoundProduct& product) {
  return dynamic_cast<const FakeProduct&>(product).name();
}

class KernelChoiceTest : public testing::Test {
 protected:
  KernelCandidate Candidate(const std::string& name) {
    return {name, [this, name] { return std::make_unique<FakeProduct>(name, &runs_); }};
  }
  static KernelCandidate Refused(const std::string& name, ExitCode code = ExitCode::kDevice) {
    return {name,
            [code]() -> std::unique_ptr<BoundProduct> { throw Error(code, "not supported"); }};
  }
  KernelChooser Chooser(KernelChoices given = {}) {
    return KernelChooser(std::move(given), [this](BoundProduct& product) {
      measured_.push_back(NameOf(product));
      const auto seconds = seconds_.find(NameOf(product));
      if (seconds == seconds_.end()) throw Error(ExitCode::kDevice, "launch failed");
      return seconds->second;
    });
  }

  std::map<std::string, double> seconds_ = {{"slow", 3}, {"fast", 1}, {"middle", 2}};
  std::vector<std::string> measured_;
  int runs_ = 0;
};

TEST_F(KernelChoiceTest, TheFastestIsTakenAndKept) {
  KernelChooser chooser = Chooser();
  const auto product =
      chooser.Choose(kProduct, {{{Candidate("slow"), Candidate("fast")}}, {{Candidate("middle")}}});
  EXPECT_EQ(NameOf(*product), "fast");
  EXPECT_EQ(chooser.choices(), (KernelChoices{{kProduct, "fast"}}));
  EXPECT_EQ(measured_.size(), 3u);
}

TEST_F(KernelChoiceTest, WhatIsGivenIsTakenWithoutMeasuring) {
  const KernelChoices given = {{kProduct, "slow"}, {"fc6 forward bf16", "other"}};
  KernelChooser chooser = Chooser(given);
  const auto product = chooser.Choose(kProduct, {{{Candidate("fast"), Candidate("slow")}}});
  EXPECT_EQ(NameOf(*product), "slow");
  EXPECT_TRUE(measured_.empty());
  EXPECT_EQ(chooser.choices(), (KernelChoices{{kProduct, "slow"}}));
}

TEST_F(KernelChoiceTest, WhatIsGivenButUnknownIsMeasuredAgain) {
  KernelChooser chooser = Chooser({{kProduct, "of another library"}});
  EXPECT_EQ(NameOf(*chooser.Choose(kProduct, {{{Candidate("slow"), Candidate("fast")}}})), "fast");
  EXPECT_EQ(chooser.choices(), (KernelChoices{{kProduct, "fast"}}));
}

TEST_F(KernelChoiceTest, WhatIsGivenButRefusedIsAnErrorThatNamesTheProduct) {
  KernelChooser chooser = Chooser({{kProduct, "refused"}});
  try {
    chooser.Choose(kProduct, {{{Refused("refused"), Candidate("slow")}}});
    ADD_FAILURE() << "another kernel was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
    EXPECT_NE(error.message().find(kProduct), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("not supported"), std::string::npos) << error.message();
  }
  EXPECT_TRUE(measured_.empty());
}

TEST_F(KernelChoiceTest, WhatCannotBeMadeOrRunIsDropped) {
  KernelChooser chooser = Chooser();
  const auto product = chooser.Choose(
      kProduct, {{{Refused("refused"), Candidate("fails when it runs"), Candidate("middle")}}});
  EXPECT_EQ(NameOf(*product), "middle");
}

TEST_F(KernelChoiceTest, OnlyTheMostPromisingAreMeasured) {
  CandidateGroup group;
  for (int i = 0; i < 30; ++i) {
    const std::string name = "candidate " + std::to_string(i);
    seconds_[name] = 30 - i;
    group.candidates.push_back(Candidate(name));
  }
  Chooser().Choose(kProduct, {group});
  EXPECT_EQ(measured_.size(), 12u);
  measured_.clear();
  Chooser().Choose(kProduct, {group, group, group, group, group});
  EXPECT_EQ(measured_.size(), 10u);
}

TEST_F(KernelChoiceTest, PreparesOnceAndOnlyToMeasure) {
  KernelChooser chooser = Chooser();
  std::vector<size_t> measured_before;
  const auto prepare = [&] { measured_before.push_back(measured_.size()); };
  for (int i = 0; i < 2; ++i) {
    chooser.Choose(kProduct, {{{Candidate("slow"), Candidate("fast")}}}, prepare);
  }
  EXPECT_EQ(measured_before, (std::vector<size_t>{0}));
}

TEST_F(KernelChoiceTest, NothingLeftIsAnErrorThatNamesTheProduct) {
  KernelChooser chooser = Chooser();
  try {
    chooser.Choose(kProduct, {{{Refused("refused")}}, {{Candidate("fails when it runs")}}});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
    EXPECT_NE(error.message().find(kProduct), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("fails when it runs: launch failed"), std::string::npos)
        << error.message();
  }
  EXPECT_TRUE(chooser.choices().empty());
  EXPECT_THROW(chooser.Choose(kProduct, {}), Error);
}

TEST_F(KernelChoiceTest, ADefectIsNotTakenForARefusal) {
  KernelChooser chooser = Chooser();
  EXPECT_THROW(
      chooser.Choose(kProduct, {{{Refused("wrong", ExitCode::kDefect), Candidate("fast")}}}),
      Error);
}

TEST_F(KernelChoiceTest, MeasuringRunsTheProduct) {
  FakeProduct product("any", &runs_);
  HostStream stream;
  EXPECT_GE(MeasureSeconds(stream, product), 0);
  EXPECT_GE(runs_, 7);
}

}  // namespace
}  // namespace convoy::cuda
