#include "trainer/step/schedule.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace convoy {
namespace {

double At(const std::string& text, double epoch, double base = 0.01, double total = 90) {
  return Schedule::Parse(text, "lr-scheduler").At(base, {.epoch = epoch, .total_epochs = total});
}

TEST(Schedule, StepAndMultistepMultiply) {
  EXPECT_DOUBLE_EQ(At("step:30:0.1", 29.99), 0.01);
  EXPECT_DOUBLE_EQ(At("step:30:0.1", 30), 0.001);
  EXPECT_NEAR(At("step:30:0.1", 89), 1e-4, 1e-18);
  EXPECT_DOUBLE_EQ(At("multistep:25,51,79:0.1", 24.9), 0.01);
  EXPECT_NEAR(At("multistep:25,51,79:0.1", 79), 1e-5, 1e-18);
}

// The run of the paper's figures: 0.001 from epoch 25, 0.0001 from 51, 0.00001 from 79.
TEST(Schedule, PiecewiseSaysTheScheduleOfThe2012RunAsItWas) {
  const std::string weights = "piecewise:25=0.001,51=0.0001,79=0.00001";
  EXPECT_EQ(At(weights, 0), 0.01);
  EXPECT_EQ(At(weights, 25), 0.001);
  EXPECT_EQ(At(weights, 78.9), 0.0001);
  EXPECT_EQ(At(weights, 79), 0.00001);
  EXPECT_EQ(At("piecewise:67=0.00001,72=0", 72), 0);
}

// The values of the 2013-14 schedule: base 0.01, factor 250, 4 levels, changing at every quarter.
TEST(Schedule, DexpGivesThePublishedLevels) {
  EXPECT_DOUBLE_EQ(At("dexp:250:4", 0), 0.01);
  EXPECT_NEAR(At("dexp:250:4", 22.5), 0.0015874, 5e-8);
  EXPECT_NEAR(At("dexp:250:4", 45), 0.00025198, 5e-9);
  EXPECT_NEAR(At("dexp:250:4", 67.5), 0.00004, 1e-12);
  EXPECT_NEAR(At("dexp:250:4", 90), 0.00004, 1e-12);
}

TEST(Schedule, PolyAndCosineReachTheirEnds) {
  EXPECT_DOUBLE_EQ(At("poly:2", 45), 0.0025);
  EXPECT_DOUBLE_EQ(At("poly:1", 90), 0);
  EXPECT_DOUBLE_EQ(At("cosine", 0), 0.01);
  EXPECT_DOUBLE_EQ(At("cosine", 45), 0.005);
  EXPECT_DOUBLE_EQ(At("cosine:0.001", 90), 0.001);
}

TEST(Schedule, PlateauDropsAfterEvaluationsThatBringNothing) {
  const Schedule schedule = Schedule::Parse("plateau:0.1:2", "lr-scheduler");
  const auto at = [&](const std::vector<double>& errors) {
    return schedule.At(1, {.epoch = 50, .total_epochs = 90, .evaluations = &errors});
  };
  EXPECT_EQ(at({}), 1);
  EXPECT_EQ(at({60, 55, 56}), 1);
  EXPECT_EQ(at({60, 55, 56, 57}), 0.1);
  EXPECT_NEAR(at({60, 55, 56, 57, 54, 58, 54}), 0.01, 1e-15);
}

TEST(Schedule, WarmUpRisesFromOneStepsShareToTheWhole) {
  const Schedule schedule = Schedule::Parse("constant+warmup:5", "lr-scheduler");
  EXPECT_DOUBLE_EQ(schedule.At(1, {.epoch = 0, .step_epochs = 0.01}), 0.002);
  EXPECT_DOUBLE_EQ(schedule.At(1, {.epoch = 2.5}), 0.5);
  EXPECT_DOUBLE_EQ(schedule.At(1, {.epoch = 5, .step_epochs = 0.01}), 1);
}

TEST(Schedule, WrongTextsSayWhatIsExpected) {
  for (const char* text :
       {"stepp:1:2", "step:1", "step:0:0.1", "step:x:0.1", "multistep:5,3:0.1", "piecewise:5",
        "piecewise:5=1,2=3", "dexp:250", "dexp:250:1", "poly", "cosine:1:2", "plateau:0.1",
        "constant+warm:5", "constant+warmup:0", "constant:1", ""}) {
    try {
      Schedule::Parse(text, "lr-scheduler");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      EXPECT_NE(error.message().find("--lr-scheduler"), std::string::npos);
      EXPECT_NE(error.message().find("expected"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace convoy
