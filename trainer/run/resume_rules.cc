#include "trainer/run/resume_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/settings_text.h"
#include "core/text.h"

namespace convoy {
namespace {

using Names = std::set<std::string>;

// Compared by their meaning: a run cannot change them. And what is no setting any more.
const Names& FixedSettings() {
  static const Names names = {"model",     "classes",     "input",    "activation",      "norm",
                              "pooling",   "dropout",     "init",     "label-smoothing", "seed",
                              "optimizer", "update-rule", "geometry", "resize",          "mean",
                              "std",       "resume"};
  return names;
}

// They say where, how fast and with what output a run is computed.
const Names& SettingsWithoutInfluence() {
  static const Names names = {"output-dir",   "index-folder",     "workers",       "read-ahead",
                              "towers",       "fc-shards",        "shard-update",  "replicas",
                              "backend",      "threads",          "numa",          "share-device",
                              "communicator", "cuda-graph",       "kernel-cache",  "workspace",
                              "deadline",     "lost-after",       "overlap",       "keep",
                              "print-freq",   "checkpoint-every", "check-replicas"};
  return names;
}

bool IsEnd(const SettingChange& change) {
  return change.name == "steps" || change.name == "epochs";
}

// Those of a checkpoint; none if an older version wrote what cannot be read.
std::vector<Setting> SavedSettings(const std::string& text) {
  try {
    return ParseSettings("the checkpoint's settings", text);
  } catch (const Error&) {
    return {};
  }
}

// The values of a setting, as one text.
std::string ValueOf(const std::vector<Setting>& settings, const std::string& name) {
  std::vector<std::string> values;
  for (const Setting& setting : settings) {
    if (setting.name == name) values.push_back(setting.value);
  }
  return fmt::format("{}", fmt::join(values, " | "));
}

bool SameValue(const std::string& a, const std::string& b) {
  const auto number_a = ParseNumber(a), number_b = ParseNumber(b);
  return a == b || (number_a && number_a == number_b);
}

bool IsComputed(MeanKind mean) { return mean == MeanKind::kImage || mean == MeanKind::kChannel; }

// Shows the numbers of a mean or deviation.
std::string Shown(const std::vector<float>& values, const char* none) {
  constexpr size_t kMost = 8;
  if (values.empty()) return none;
  if (values.size() > kMost) return fmt::format("an image of {} numbers", values.size());
  return fmt::format("{}", fmt::join(values, ","));
}

// Nothing divided is everything divided by one.
std::vector<float> WithoutOnes(const std::vector<float>& deviation) {
  const bool ones = std::all_of(deviation.begin(), deviation.end(), [](float d) { return d == 1; });
  return ones ? std::vector<float>() : deviation;
}

std::string Difference(const char* what, const std::string& was, const std::string& is) {
  return fmt::format("{}: {} in the checkpoint, {} in this run", what, was, is);
}

}  // namespace

std::optional<RunEnd> EndReached(const CheckpointInfo& saved, const RunConfig& config) {
  if (saved.evaluation_due) return std::nullopt;
  if (saved.epoch >= config.epochs) {
    return RunEnd{"--epochs", saved.epoch > config.epochs || saved.batch > 0};
  }
  if (config.steps && saved.step >= *config.steps) {
    return RunEnd{"--steps", saved.step > *config.steps};
  }
  return std::nullopt;
}

std::string SettingChange::ToString() const {
  const auto shown = [](const std::string& value) {
    return value.empty() ? std::string("(not set)") : value;
  };
  return fmt::format("{} {} -> {}", name, shown(was), shown(is));
}

std::vector<SettingChange> ChangedSettings(const std::string& saved, const std::string& now) {
  const std::vector<Setting> before = SavedSettings(saved);
  if (before.empty()) return {};
  const std::vector<Setting> after = ParseSettings("the settings", now);
  std::vector<SettingChange> changes;
  Names seen;
  for (const std::vector<Setting>& settings : {after, before}) {
    for (const Setting& setting : settings) {
      if (FixedSettings().count(setting.name) > 0 || !seen.insert(setting.name).second) continue;
      SettingChange change{setting.name, ValueOf(before, setting.name),
                           ValueOf(after, setting.name)};
      if (!SameValue(change.was, change.is)) changes.push_back(std::move(change));
    }
  }
  return changes;
}

std::string EffectOf(const SettingChange& change, const RunConfig& config) {
  if (change.name == "data" && IsComputed(config.mean)) {
    return "used from here on; the mean stays that of the checkpoint";
  }
  if (IsEnd(change) && config.optimizer.lr_scheduler.SpansTheRun()) {
    return fmt::format("used from here on; --lr-scheduler {} ends there",
                       config.optimizer.lr_scheduler.text());
  }
  return "used from here on";
}

std::vector<SettingChange> ChangesOfAFinishedRun(const std::vector<SettingChange>& changes,
                                                 const RunEnd& end) {
  std::vector<SettingChange> result;
  std::copy_if(
      changes.begin(), changes.end(), std::back_inserter(result), [&](const SettingChange& change) {
        return IsEnd(change) ? end.passed : SettingsWithoutInfluence().count(change.name) == 0;
      });
  return result;
}

std::vector<std::string> PreprocessingDifferences(const CheckpointInfo& saved,
                                                  const RunConfig& config,
                                                  const Preprocessing& given) {
  std::vector<std::string> differences;
  const std::string was = ValueOf(SavedSettings(saved.settings), "mean");
  const std::string is = ValueOf(ParseSettings("the settings", config.settings), "mean");
  // The same words mean the same; other words may do so too, if they are numbers. Of a checkpoint
  // without words only the numbers are known, and what would be computed is taken for the same.
  const bool same = IsComputed(config.mean)
                        ? was == is || (was.empty() && !saved.preprocessing.mean.empty())
                        : given.mean == saved.preprocessing.mean;
  if (!same) {
    differences.push_back(
        Difference("mean", was.empty() ? Shown(saved.preprocessing.mean, "none") : was, is));
  }
  const std::vector<float> deviation = WithoutOnes(given.standard_deviation);
  const std::vector<float> saved_deviation = WithoutOnes(saved.preprocessing.standard_deviation);
  if (deviation != saved_deviation) {
    differences.push_back(Difference("std", Shown(saved_deviation, "1"), Shown(deviation, "1")));
  }
  return differences;
}

}  // namespace convoy
