// trainer/checkpoint/checkpoint.h - the whole state of a run in one file.
//
// A checkpoint holds the uncut network whatever the cut: every parameter, the optimiser's states by
// their names ("momentum.conv1.weight", "adam_v.fc8.bias"), the buffers, and what is needed to go
// on or to evaluate (docs/formats.md). It can be read by any number of ranks under any cut.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "layers/models.h"
#include "trainer/engine.h"
#include "trainer/step/rank_model.h"

namespace convoy {

// What a checkpoint says besides its tensors.
struct CheckpointInfo {
  // The network.
  std::string model;
  ModelOptions options;
  std::vector<std::string> classes;

  // How images were made into its input.
  Preprocessing preprocessing;
  std::string geometry;
  int resize = 0;

  // Where the run stands: `step` updates are done, and batch `batch` of `epoch` comes next.
  int64_t step = 0, epoch = 0, batch = 0;
  int64_t global_batch = 0;
  uint64_t seed = 0;
  int64_t samples = 0;              // of the training set
  std::vector<double> evaluations;  // top-1 error in percent after each evaluated epoch
  bool evaluation_due = false;      // the run was stopped before the evaluation of this step
  std::string rule;                 // of the optimiser, by its name: what the states mean
  // How many updates a parameter has had, if that is not `step`: it was frozen for a while.
  std::map<std::string, int64_t> updates;
  // How products were computed, and what computed them (Backend::Platform): a run that goes on
  // there computes them alike.
  std::string platform;
  KernelChoices kernel_choices;

  // For people.
  std::string settings;  // the resolved configuration
  std::string version;
  int ranks = 1, replicas = 1, fc_shards = 1, towers = 1;
  std::string dtype;
};

// Collective over the world, whose rank 0 writes: each slice of a tensor comes from the first of
// the ranks that hold it. Throws (kDisk) on rank 0.
void SaveCheckpoint(const std::string& path, const CheckpointInfo& info, Engine& engine);

// Reads only the metadata of a file. Throws (kCheckpoint).
CheckpointInfo ReadCheckpointInfo(const std::string& path);

// Collective over the world: rank 0 reads, every rank takes its slices of the weights, the buffers
// and, if the store has them, the optimiser's states. The file must have been checked. Throws
// (kCheckpoint) on every rank, naming the tensors that are missing or of another shape.
void LoadCheckpoint(const std::string& path, Engine& engine);

// Every difference between two runs that keeps one from going on where the other stopped, one line
// each: "model: alexnet-bn in the checkpoint, alexnet2012 in this run".
std::vector<std::string> DifferencesThatForbidResume(const CheckpointInfo& saved,
                                                     const CheckpointInfo& current);

// The files of one run: OUTPUT/checkpoints/step-000001234.safetensors, and best.safetensors.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::string folder) : folder_(std::move(folder)) {}

  std::string PathOf(int64_t step) const;
  std::string best_path() const { return folder_ + "/best.safetensors"; }
  // Creates the folder, removes what an interrupted save left and says so.
  void Prepare(Log& log) const;
  // The newest checkpoint whose checksums are right, by the step that it holds: a copy may have any
  // name. Says which ones it skipped, and why. Nothing when there is no checkpoint at all; throws
  // (kCheckpoint) when there are some and none is valid, and (kDisk) if the folder cannot be read.
  std::optional<std::string> NewestValid(Log& log) const;
  // The run goes on from `step`: checkpoints that hold later steps, or are named so, get
  // ".abandoned" after their names, best.safetensors too. So nothing takes them for newer ones of
  // this run, and it overwrites none. Says so, and returns whether there were any. Throws (kDisk).
  bool SetAsideAfter(int64_t step, Log& log) const;
  // Removes all but the newest `keep` numbered checkpoints of this run. best.safetensors stays, and
  // so does a file whose name and step differ: the run did not write it.
  void Prune(int keep) const;
  // Makes best.safetensors a second name of the checkpoint of `step`.
  void MarkBest(int64_t step) const;

 private:
  struct Numbered {
    std::string path;
    int64_t number;  // in its name
    int64_t step;    // in the file; that of the name if it cannot be read
    bool is_own;     // written by a run, under this name
  };
  std::vector<Numbered> NewestFirst() const;
  std::string folder_;
};

// `path` + `suffix` (".abandoned"), with a number after it if that name is taken.
std::string FreeName(const std::string& path, const char* suffix);

}  // namespace convoy
