// trainer/run/training_run.h - the training loop: batches, steps, agreement, evaluation,
// checkpoints.
#pragma once

#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/grid.h"
#include "comm/world.h"
#include "core/host/clock.h"
#include "core/host/log.h"
#include "dataloader/dataset.h"
#include "layers/backend.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/engine.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/ranks/replica_loader.h"
#include "trainer/ranks/step_verdict.h"
#include "trainer/run/loader_log.h"
#include "trainer/run/loss_spikes.h"
#include "trainer/run/metrics.h"
#include "trainer/run/progress.h"
#include "trainer/run/resume_rules.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/signals.h"
#include "trainer/run/stragglers.h"
#include "trainer/run_config.h"
#include "trainer/trainer.h"

namespace convoy {

// One run of one rank. Every method is collective over the world unless it says otherwise.
class TrainingRun {
 public:
  // Opens the data, compiles the network, and starts afresh or from a checkpoint. Until the last
  // check has passed, what an earlier run left in the folder stays as it is.
  TrainingRun(const RunConfig& config, World& world, Log& log);
  // False: the run had been finished before.
  bool HasWork() const { return engine_ != nullptr; }
  // To the end, or to a signal.
  TrainingResult Run();

 private:
  enum class Importance { kShould, kMust };
  enum class Beginning : int32_t { kFresh, kResumed, kAtTheEnd };

  // Before the first step (training_start.cc).
  void HoldOut();
  void OpenValidation();
  Beginning ChooseBeginning(CheckpointInfo& saved, std::string& origin);
  bool RequireResumable(const CheckpointInfo& saved, const std::string& path);  // rank 0
  void RequireSameFinishedRun(const std::vector<SettingChange>& changes, const RunEnd& end,
                              const CheckpointInfo& saved, const std::string& path) const;
  void TakePosition(CheckpointInfo& saved);
  void LoadFrom(const std::string& origin, const CheckpointInfo& saved);
  void TakeUpdates(const CheckpointInfo& saved);
  void MakeModelAndLoaders();
  void TakeFolder(Beginning beginning);
  int64_t EvaluationBatch() const;
  void Announce();

  Backend& backend() const { return *resources_.backend; }
  ProcessGrid& grid() const { return *resources_.grid; }

  // Time. Not collective.
  int64_t StepsPerEpoch() const;
  bool Finished() const;
  ScheduleInputs Now() const;
  int64_t TotalSteps() const;
  double TotalEpochs() const;
  int64_t StateBytes() const;  // of a checkpoint

  TrainingResult RunSteps();
  // One step, whose first batch took so long to fetch. A device is given the next one before the
  // result of this one is read.
  void QueueStep(double fetch_s);
  // Takes this rank's part of the next batch. Not collective.
  struct Fetched {
    double seconds = 0;
    std::optional<Error> fault;
  };
  Fetched Fetch();
  // Returns the seconds that this rank took for its part.
  double FetchNextMicroBatch();
  void SayWhyNotRecorded();
  // Agrees on what the ranks bring, and finishes the oldest step if more than
  // TrainingStep::steps_ahead are under way.
  StepVerdict Agree(StepReport report);
  // The same; also counts the bad samples of the batch that was fetched last.
  StepVerdict AgreeOnNextBatch(StepReport report);
  void EnterBadSamples();
  void FinishAllSteps();
  StepVerdict FinishStep(StepReport report);
  [[noreturn]] void ThrowNonFinite(int64_t step, bool here);
  void WarnOfSpike(const StepMetrics& metrics);
  void ShowProgress(const StepMetrics& metrics);

  // After some steps.
  bool EvaluateAndSave(const SignalWatch& signals);
  // False when a signal came before its end.
  bool Evaluate(const SignalWatch& signals);
  TrainingResult Stopped();
  CheckpointInfo InfoNow() const;
  // Throws (kNumbers) if ranks that should hold the same weights do not, as RequireSameSlices. Does
  // nothing if the run was not asked to, or has compared them after this step.
  void CompareSlices();
  void Save(Importance importance);
  void WriteCheckpoint();

  RunConfig config_;
  World& world_;
  Log& log_;
  ComputeResources resources_;
  std::shared_ptr<const Dataset> training_set_, validation_set_;
  NetworkSpec network_;
  std::optional<RunFolder> folder_;  // rank 0
  Preprocessing preprocessing_;
  std::unique_ptr<ReplicaLoader> loader_, evaluation_loader_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<MetricsFile> metrics_;  // rank 0
  std::unique_ptr<Progress> progress_;    // rank 0
  std::optional<LoaderLog> loader_log_;
  StragglerWatch stragglers_{world_, log_};
  LossSpikeWatch spikes_;

  KernelChoices resumed_choices_;  // rank 0: of the checkpoint, for what is not compiled yet
  // `step_` updates are done or under way; batch `batch_` of `epoch_` comes next.
  int64_t step_ = 0, epoch_ = 0, batch_ = 0;
  int64_t first_step_ = 0, saved_step_ = -1, compared_step_ = -1;
  std::vector<double> evaluations_;
  bool evaluation_due_ = false;  // of the state after `step_`
  bool is_best_ = false;
  int failed_saves_ = 0;
  bool said_why_not_recorded_ = false;
  double loss_ = std::numeric_limits<double>::quiet_NaN();  // of the last batch that had one
  struct StepUnderWay {
    StepMetrics metrics;
    int64_t images;  // of all replicas
    RankTime own = {};
  };
  std::deque<StepUnderWay> under_way_;  // that the ranks have not agreed on yet
  Clock::time_point run_start_, last_step_end_;
  int64_t window_images_ = 0;  // since the last printed line
  double window_s_ = 0;
};

}  // namespace convoy
