// What a run writes: its checkpoints.
#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/text.h"
#include "core/version.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/engine.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/same_slices.h"
#include "trainer/run/run_setup.h"
#include "trainer/run/training_run.h"

namespace convoy {
namespace {

// A save that fails this often in a row ends the run.
constexpr int kMaxFailedSaves = 3;

}  // namespace

CheckpointInfo TrainingRun::InfoNow() const {
  KernelChoices choices = backend().kernel_choices();
  choices.merge(KernelChoices(resumed_choices_));
  std::map<std::string, int64_t> updates;
  if (engine_) {
    const Optimizer& optimizer = engine_->optimizer();
    const std::vector<std::string> names = optimizer.ParameterNames();
    for (size_t i = 0; i < names.size(); ++i) {
      if (optimizer.updates()[i] != step_) updates[names[i]] = optimizer.updates()[i];
    }
  }
  return {.model = config_.model,
          .options = config_.model_options,
          .classes = training_set_->classes(),
          .preprocessing = preprocessing_,
          .geometry = NameOf(config_.loading.geometry),
          .resize = LoaderOptionsOf(config_.loading, network_, config_.batch_size).crop.resize,
          .step = step_,
          .epoch = epoch_,
          .batch = batch_,
          .global_batch = config_.batch_size,
          .seed = config_.seed,
          .samples = training_set_->size(),
          .evaluations = evaluations_,
          .evaluation_due = evaluation_due_,
          .rule = NameOf(config_.optimizer.rule),
          .updates = std::move(updates),
          .platform = backend().Platform(),
          .kernel_choices = std::move(choices),
          .settings = config_.settings,
          .version = kVersion,
          .ranks = world_.size(),
          .replicas = grid().shape().replicas,
          .fc_shards = grid().shape().shards,
          .towers = grid().shape().towers,
          .dtype = NameOf(config_.compute.dtype)};
}

void TrainingRun::CompareSlices() {
  if (config_.check_replicas == 0 || compared_step_ == step_) return;
  FinishAllSteps();
  const WorkScope scope(world_, "comparing weights");
  RequireSameSlices(*engine_, step_);
  compared_step_ = step_;
  last_step_end_ = Clock::now();
}

// Collective over the world. Throws (kDisk) with the room that there is and is
// needed.
void TrainingRun::WriteCheckpoint() {
  const std::string folder = config_.output_dir + "/checkpoints";
  try {
    SaveCheckpoint(CheckpointFolder(folder).PathOf(step_), InfoNow(), *engine_);
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::kDisk) throw;
    throw Error(ExitCode::kDisk,
                fmt::format("{} (a checkpoint needs {}, {} is free)", error.message(),
                            FormatBytes(static_cast<double>(StateBytes())),
                            FormatBytes(static_cast<double>(FreeBytes(folder)))),
                error.hint());
  }
}

// Collective. A save that fails for want of disk is a warning, the third in a row and one that
// must succeed an error.
void TrainingRun::Save(Importance importance) {
  if (step_ == saved_step_) return;
  CompareSlices();
  // Only this state is the best: if its save fails, no later one takes its place.
  const bool is_best = std::exchange(is_best_, false);
  try {
    RunTogether(world_, [&] {
      const WorkScope scope(world_, "writing a checkpoint");
      WriteCheckpoint();
    });
    failed_saves_ = 0;
    saved_step_ = step_;
  } catch (const Error& error) {
    const bool gives_up = importance == Importance::kMust || ++failed_saves_ >= kMaxFailedSaves;
    if (error.exit_code() != ExitCode::kDisk || gives_up) throw;
    log_.Warning("no checkpoint of step {}: {}; the run goes on, but {} failures in a row end it",
                 step_, error.message(), kMaxFailedSaves);
    return;
  }
  if (!folder_) return;
  try {
    if (is_best) folder_->checkpoints().MarkBest(step_);
  } catch (const Error& error) {
    log_.Warning("{}; the run goes on", error.what());
  }
  folder_->checkpoints().Prune(config_.keep);
}

}  // namespace convoy
