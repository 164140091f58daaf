// trainer/trainer.h - start here: a run from its configuration to its result.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/world.h"
#include "core/host/log.h"
#include "trainer/run_config.h"

namespace convoy {

enum class TrainingEnd {
  kFinished,
  kInterrupted,  // by a signal, with a good checkpoint
};

struct TrainingResult {
  TrainingEnd end = TrainingEnd::kFinished;
  int64_t steps = 0;
  double loss = 0;  // of the last step; NaN if none was done
};

// Trains. Collective over the world; every rank gets the same configuration. Writes only
// into config.output_dir, apart from what is kept beside the data: its index and its mean. Changes
// nothing in the folder until `on_begin` is called on every rank: all checks have passed, and the
// folder is this run's. It is not called for a run that was finished before. Signals stop it: a
// process that others may signal makes a SignalThread first. Throws Errors of every exit code.
TrainingResult Train(const RunConfig& config, World& world, Log& log,
                     const std::function<void()>& on_begin = {});

// Accuracy over a data set, each image counted once whatever the world size.
struct EvaluationResult {
  int64_t images = 0;    // evaluated
  int64_t left_out = 0;  // that cannot be decoded
  int views = 1;
  double loss = 0;
  double top1 = 0, top5 = 0;  // percent
  // confusion[label][prediction], if it was asked for; else empty.
  std::vector<std::vector<int64_t>> confusion;
  std::vector<std::string> classes;
};

// Evaluates one checkpoint, or several as an ensemble whose probabilities are averaged. Collective
// over the world.
EvaluationResult Evaluate(const EvaluateConfig& config, World& world, Log& log);

// The most probable classes of one image.
struct Prediction {
  std::string image;
  struct Candidate {
    std::string name;
    double probability = 0;
  };
  std::vector<Candidate> candidates;
  std::string fault;  // why there is none
};

// The `top` most probable classes of every image file below `paths`, one rank. Images that cannot
// be decoded get a fault and no candidates.
std::vector<Prediction> Predict(const EvaluateConfig& config, const std::vector<std::string>& paths,
                                int top, Log& log);

// What a rank leaves for convoyrun: OUTPUT/exit.RANK.json with code, reason and step. Never
// throws.
void WriteExitRecord(const std::string& output_dir, int rank, int64_t step, ExitCode code,
                     const std::string& reason);
// Whether a file of that name is such a record.
bool IsExitRecord(const std::string& name);
// Removes the records of an earlier run.
void RemoveExitRecords(const std::string& output_dir);

}  // namespace convoy
