// trainer/run/resume_rules.h - what differs between a checkpoint's run and the run that would go on
// from it, and whether that matters.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/run_config.h"
#include "trainer/step/rank_model.h"

namespace convoy {

// Where a run ends: the options that say so, and whether `saved` has reached that.
struct RunEnd {
  const char* option = nullptr;  // "--steps" or "--epochs": which of the two was reached
  bool passed = false;           // the checkpoint is further than that
};
// Nothing if there is something left to do.
std::optional<RunEnd> EndReached(const CheckpointInfo& saved, const RunConfig& config);

// A setting that is not what it was. Settings without a value are "(not set)".
struct SettingChange {
  std::string name, was, is;
  std::string ToString() const;  // "lr 0.01 -> 0.001"
};

// What differs between two texts of settings, in the order of `now`. Left out are the settings that
// a run cannot change: those are compared by what they mean (DifferencesThatForbidResume). Nothing
// if `saved` cannot be read.
std::vector<SettingChange> ChangedSettings(const std::string& saved, const std::string& now);

// What becomes of a change in a run that goes on: "used from here on".
std::string EffectOf(const SettingChange& change, const RunConfig& config);

// The changes that make it another run, if it has ended. Left out are changes of place, speed and
// output, and changes of the end itself unless the checkpoint is past it (`end.passed`).
std::vector<SettingChange> ChangesOfAFinishedRun(const std::vector<SettingChange>& changes,
                                                 const RunEnd& end);

// Every difference of mean and standard deviation, as DifferencesThatForbidResume has them. `given`
// is what this run's settings say; its mean is not read if it would be computed from the data.
std::vector<std::string> PreprocessingDifferences(const CheckpointInfo& saved,
                                                  const RunConfig& config,
                                                  const Preprocessing& given);

}  // namespace convoy
