// What a run that goes on makes of every option of convoy train.
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "launch/command.h"
#include "trainer/run/resume_rules.h"

namespace convoy {
namespace {

using Names = std::set<std::string>;

Names OptionsOfTrain() {
  testing::internal::CaptureStdout();
  const char* const words[] = {"--help"};
  TrainCommand(1, words);
  std::istringstream help(testing::internal::GetCapturedStdout());
  const std::regex option("^  (-., )?--([a-z0-9-]+).*");
  Names names;
  std::smatch match;
  for (std::string line; std::getline(help, line);) {
    if (std::regex_match(line, match, option)) names.insert(match[2]);
  }
  return names;
}

bool IsFixed(const std::string& name) {
  return ChangedSettings(name + " = 1\n", name + " = 2\n").empty();
}

bool HasNoInfluence(const std::string& name) {
  return ChangesOfAFinishedRun({{name, "1", "2"}}, {"--steps", false}).empty();
}

// A new option belongs here or into one of the two lists of resume_rules.cc.
TEST(OptionsOfTrain, AreFixedOrWithoutInfluenceOrMakeAnotherRun) {
  const Names not_settings = {"config", "recipe", "print-config"};
  const Names make_another_run = {"data",
                                  "val",
                                  "val-split",
                                  "devkit",
                                  "batch-size",
                                  "accumulate",
                                  "betas",
                                  "eps",
                                  "eta",
                                  "clip-grad",
                                  "lr",
                                  "lr-scheduler",
                                  "momentum",
                                  "weight-decay",
                                  "param-group",
                                  "augment",
                                  "images-per-draw",
                                  "colour",
                                  "colour-strength",
                                  "colour-scheduler",
                                  "dtype",
                                  "colour-jitter",
                                  "tf32",
                                  "reduce-dtype",
                                  "dct-scaling",
                                  "views",
                                  "bad-samples",
                                  "bad-limit",
                                  "eval-every"};
  Names others;
  for (const std::string& name : OptionsOfTrain()) {
    if (!not_settings.contains(name) && !IsFixed(name) && !HasNoInfluence(name)) {
      others.insert(name);
    }
  }
  EXPECT_EQ(others, make_another_run);
}

}  // namespace
}  // namespace convoy
