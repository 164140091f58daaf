// What differs between a checkpoint's run and the one that would go on from it.
#include "trainer/run/resume_rules.h"

#include <gtest/gtest.h>

namespace convoy {
namespace {

std::vector<std::string> Texts(const std::vector<SettingChange>& changes) {
  std::vector<std::string> texts;
  for (const SettingChange& change : changes) texts.push_back(change.ToString());
  return texts;
}

TEST(ChangedSettings, AreNamedOnceEachWithBothValues) {
  const std::string saved =
      "data = a\nsteps = 10\nlr = 0.01\nmomentum = 0.90\nparam-group = x lr=1\nval = \"b # c\"\n";
  const std::string now =
      "data = a\nlr = 0.001\nmomentum = 0.9\nparam-group = x lr=1\nparam-group = y lr=2\n";
  EXPECT_EQ(Texts(ChangedSettings(saved, now)),
            (std::vector<std::string>{"lr 0.01 -> 0.001", "param-group x lr=1 -> x lr=1 | y lr=2",
                                      "steps 10 -> (not set)", "val b # c -> (not set)"}));
  EXPECT_TRUE(ChangedSettings(now, now).empty());
}

// Compared by what they mean: "classes" not set may be the same as 10.
TEST(ChangedSettings, LeaveOutWhatARunCannotChange) {
  EXPECT_TRUE(ChangedSettings("classes = 10\nseed = 1\n", "seed = 2\nmean = none\n").empty());
}

// A checkpoint of another program or an older version goes on all the same.
TEST(ChangedSettings, AreNotKnownIfTheCheckpointHasNoneOrTornOnes) {
  for (const char* saved : {"", "data = \"a\"b\"\n"}) {
    EXPECT_TRUE(ChangedSettings(saved, "lr = 1\n").empty()) << saved;
  }
}

CheckpointInfo At(int64_t step, int64_t epoch, int64_t batch = 0) {
  return {.step = step, .epoch = epoch, .batch = batch};
}

TEST(EndReached, IsByStepsOrEpochsWhicheverIsSooner) {
  RunConfig config;
  config.epochs = 3;
  EXPECT_FALSE(EndReached(At(20, 2, 9), config));
  EXPECT_STREQ(EndReached(At(30, 3), config).value().option, "--epochs");
  EXPECT_FALSE(EndReached(At(30, 3), config).value().passed);
  EXPECT_TRUE(EndReached(At(31, 3, 1), config).value().passed);
  config.steps = 20;
  EXPECT_FALSE(EndReached(At(19, 1, 9), config));
  EXPECT_STREQ(EndReached(At(20, 2), config).value().option, "--steps");
  EXPECT_FALSE(EndReached(At(20, 2), config).value().passed);
  EXPECT_TRUE(EndReached(At(21, 2, 1), config).value().passed);
  CheckpointInfo stopped = At(20, 2);
  stopped.evaluation_due = true;
  EXPECT_FALSE(EndReached(stopped, config)) << "the last evaluation is left to do";
}

TEST(ChangesOfAFinishedRun, AreThoseOfAnotherRun) {
  const std::vector<SettingChange> changes = {{"threads", "1", "2"},
                                              {"output-dir", "runs/a", "./runs/a"},
                                              {"steps", "20", "10"},
                                              {"lr", "0.1", "0.2"}};
  EXPECT_EQ(Texts(ChangesOfAFinishedRun(changes, {"--steps", false})),
            std::vector<std::string>{"lr 0.1 -> 0.2"});
  EXPECT_EQ(Texts(ChangesOfAFinishedRun(changes, {"--steps", true})),
            (std::vector<std::string>{"steps 20 -> 10", "lr 0.1 -> 0.2"}));
}

// Config and checkpoint of two runs, as text and as what it meant.
struct Case {
  std::string saved, now;
  MeanKind kind;
  std::vector<float> saved_mean, mean, saved_deviation, deviation;
};
std::vector<std::string> Differences(const Case& c) {
  CheckpointInfo saved;
  saved.settings = c.saved;
  saved.preprocessing = {.mean = c.saved_mean, .standard_deviation = c.saved_deviation};
  RunConfig config;
  config.settings = c.now;
  config.mean = c.kind;
  return PreprocessingDifferences(saved, config,
                                  {.mean = c.mean, .standard_deviation = c.deviation});
}

TEST(PreprocessingDifferences, AreOfMeaningNotOfWords) {
  using Kind = MeanKind;
  const std::vector<float> image(300, 9);
  EXPECT_TRUE(Differences({"mean = image\n", "mean = image\n", Kind::kImage, image}).empty());
  EXPECT_TRUE(Differences({"mean = 5\n", "mean = 5,5\n", Kind::kValues, {5, 5}, {5, 5}}).empty());
  EXPECT_TRUE(
      Differences({"mean = none\n", "mean = none\n", Kind::kNone, {}, {}, {}, {1, 1}}).empty());
  EXPECT_TRUE(Differences({"", "mean = image\n", Kind::kImage, image}).empty());
  EXPECT_EQ(Differences({"", "mean = image\n", Kind::kImage, {}}),
            std::vector<std::string>{"mean: none in the checkpoint, image in this run"});
  EXPECT_EQ(Differences({"mean = none\n", "mean = 100\n", Kind::kValues, {}, {100}}),
            std::vector<std::string>{"mean: none in the checkpoint, 100 in this run"});
  EXPECT_EQ(Differences({"mean = image\n", "mean = channel\n", Kind::kChannel, image}),
            std::vector<std::string>{"mean: image in the checkpoint, channel in this run"});
  EXPECT_EQ(Differences({"mean = 5\n", "mean = none\n", Kind::kNone, {5}, {}}),
            std::vector<std::string>{"mean: 5 in the checkpoint, none in this run"});
  EXPECT_EQ(Differences({"mean = 5\n", "mean = 5\n", Kind::kValues, {5}, {5}, {60}, {50}}),
            std::vector<std::string>{"std: 60 in the checkpoint, 50 in this run"});
}

}  // namespace
}  // namespace convoy
