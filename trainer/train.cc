// The training loop: batches, steps, agreement, evaluation, checkpoints.
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "core/text.h"
#include "trainer/agreement.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/evaluation.h"
#include "trainer/metrics.h"
#include "trainer/progress.h"
#include "trainer/run_folder.h"
#include "trainer/session.h"
#include "trainer/signals.h"
#include "trainer/step_agreement.h"
#include "trainer/trainer.h"
#include "trainer/training_step.h"
#include "trainer/version.h"

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A save that fails this often in a row ends the run.
constexpr int kMaxFailedSaves = 3;
constexpr int64_t kMaxEvaluationBatch = 64;

const char* NameOf(UpdateRule rule) { return rule == UpdateRule::kPaper ? "paper" : "torch"; }

class TrainingRun {
 public:
  TrainingRun(const RunConfig& config, World& world, Log& log)
      : config_(config),
        world_(world),
        log_(log),
        grid_(world, GridOf(config.compute, world)),
        network_(MakeModel(config.model, config.model_options)),
        plan_(MakePlan(network_, grid_.shape(), world.rank())),
        optimizer_(config.optimizer, plan_),
        backend_(MakeBackend(config.compute, world, log)),
        stream_(backend_->MakeStream()),
        training_set_(OpenTogether(config.data, config.loading, world, log)) {
    log_.Info("{}", training_set_->Describe());
    RequireClasses(*training_set_, config.data, network_.classes);
    if (training_set_->size() < 1) throw Error(ExitCode::kData, config.data + " has no images");
    if (!config.validation.empty() && config.eval_every > 0) OpenValidation();

    const int64_t state_bytes =
        2 * CountsOf(network_).parameters * SizeOf(backend_->master_dtype());
    std::optional<std::string> resumed;
    RunTogether(world_, [&] {
      if (world_.rank() != 0) return;
      folder_.emplace(config_.output_dir, state_bytes);
      RemoveExitRecords(config_.output_dir);
      resumed = folder_->CheckpointToResume(config_.resume, log_);
      folder_->WriteSettings(config_.settings);
    });
    store_ = std::make_unique<ParameterStore>(*backend_, plan_, config.compute.dtype,
                                              StoreUse::kTraining);
    Start(resumed);
    MakeModelAndLoaders();
  }

  TrainingResult Run() {
    Announce();
    SignalWatch signals;
    run_start_ = last_step_end_ = Clock::now();
    first_step_ = step_;
    while (!Finished()) {
      std::optional<Error> fault;
      const Clock::time_point fetch_start = Clock::now();
      try {
        loader_->Fetch();
      } catch (const Error& error) {
        fault = error;
      }
      const double fetch_s = Since(fetch_start);
      const StepVerdict verdict = FinishStep({.stop = signals.StopAsked(),
                                              .checkpoint = signals.TakeCheckpointAsked(),
                                              .fault = fault});
      if (verdict.stop) {
        Save(Importance::kMust);
        log_.Info("stopped by a signal after step {}; the same command goes on from there", step_);
        return {TrainingEnd::kInterrupted, step_, loss_};
      }
      if (verdict.checkpoint) Save(Importance::kShould);
      DoStep(fetch_s);
      const bool epoch_ends = batch_ == 0;
      const bool due = config_.checkpoint_every > 0 && step_ % config_.checkpoint_every == 0;
      if (epoch_ends || due || Finished()) {
        FinishStep({});
        if (epoch_ends || Finished()) EvaluateIfDue();
        Save(Finished() ? Importance::kMust : Importance::kShould);
        last_step_end_ = Clock::now();
      }
    }
    progress_.reset();
    log_.Info("done: {} steps, {} epochs, in {}", step_, epoch_, FormatDuration(Since(run_start_)));
    return {TrainingEnd::kFinished, step_, loss_};
  }

 private:
  enum class Importance { kShould, kMust };

  // --- Before the first step ---

  void OpenValidation() {
    validation_set_ = OpenTogether(config_.validation, config_.loading, world_, log_);
    log_.Info("validation: {}", validation_set_->Describe());
    RequireClasses(*validation_set_, config_.validation, network_.classes);
  }

  // Fresh weights, or those of a checkpoint.
  void Start(const std::optional<std::string>& resumed_on_rank_0) {
    int32_t resumes = resumed_on_rank_0.has_value() ? 1 : 0;
    HostStream host;
    world_.all()
        .Broadcast(host, {&resumes, DType::kInt32, Shape{1}}, 0, "where to start")
        .Wait(host);
    if (resumes == 0) {
      store_->Initialize(config_.seed, *stream_);
      preprocessing_ = PreprocessingOf(config_, network_, *training_set_, world_, log_);
      return;
    }
    CheckpointInfo saved;
    RunTogether(world_, [&] {
      if (world_.rank() != 0) return;
      saved = ReadCheckpointInfo(*resumed_on_rank_0);
      RequireResumable(saved, *resumed_on_rank_0);
      log_.Info("going on from {}: step {}, epoch {}", *resumed_on_rank_0, saved.step, saved.epoch);
      if (saved.ranks != world_.size() || saved.global_batch != config_.batch_size) {
        log_.Info(
            "it was written by {} ranks with batches of {}, now {} with {}; the order of the "
            "images stays, --lr is taken as given",
            saved.ranks, saved.global_batch, world_.size(), config_.batch_size);
      }
    });
    LoadCheckpoint(resumed_on_rank_0.value_or(""), plan_, *store_, *backend_, *stream_, world_);
    store_->RefreshCompute(*stream_);
    TakePosition(saved);
  }

  void RequireResumable(const CheckpointInfo& saved, const std::string& path) const {
    const std::vector<std::string> differences = DifferencesThatForbidResume(saved, InfoNow());
    if (!differences.empty()) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("cannot go on from {}: {}", path, fmt::join(differences, "; ")),
                  "give the settings of that run, or start anew with --resume none");
    }
    if (saved.batch * saved.global_batch % config_.batch_size != 0) {
      throw Error(
          ExitCode::kUsage,
          fmt::format("--batch-size {}: the checkpoint stands after {} images of its epoch, "
                      "in batches of {}",
                      config_.batch_size, saved.batch * saved.global_batch, saved.global_batch),
          "go on with the same batch size to the end of the epoch");
    }
  }

  // Where rank 0's checkpoint stands, on every rank.
  void TakePosition(CheckpointInfo& saved) {
    HostStream host;
    int64_t numbers[] = {saved.step,
                         saved.epoch,
                         saved.batch * saved.global_batch / config_.batch_size,
                         static_cast<int64_t>(saved.evaluations.size()),
                         static_cast<int64_t>(saved.preprocessing.mean.size()),
                         static_cast<int64_t>(saved.preprocessing.standard_deviation.size())};
    const auto broadcast = [&](void* data, DType dtype, int64_t count) {
      world_.all().Broadcast(host, {data, dtype, Shape{count}}, 0, "where to start").Wait(host);
    };
    broadcast(numbers, DType::kInt64, std::ssize(numbers));
    step_ = numbers[0];
    epoch_ = numbers[1];
    batch_ = numbers[2];
    evaluations_ = saved.evaluations;
    preprocessing_ = saved.preprocessing;
    evaluations_.resize(static_cast<size_t>(numbers[3]));
    preprocessing_.mean.resize(static_cast<size_t>(numbers[4]));
    preprocessing_.standard_deviation.resize(static_cast<size_t>(numbers[5]));
    broadcast(evaluations_.data(), DType::kFloat64, numbers[3]);
    broadcast(preprocessing_.mean.data(), DType::kFloat32, numbers[4]);
    broadcast(preprocessing_.standard_deviation.data(), DType::kFloat32, numbers[5]);
  }

  void MakeModelAndLoaders() {
    const Allocator staging = [this](int64_t bytes) { return backend_->AllocateStaging(bytes); };
    LoaderOptions options = LoaderOptionsOf(config_.loading, network_, config_.batch_size);
    options.allocator = staging;
    if (validation_set_) {
      LoaderOptions evaluation = EvaluationOptions(options, config_.views);
      evaluation.global_batch = EvaluationBatch();
      evaluation_loader_ = std::make_unique<ReplicaLoader>(*validation_set_, evaluation, grid_,
                                                           grid_.towers(), log_);
    }
    options.seed = config_.seed;
    options.crop.random = config_.augment;
    options.crop.colour = network_.input[2] == 3 ? config_.colour : ColourNoise::kNone;
    options.crop.colour_strength = [this](int64_t epoch) {
      return config_.colour_scheduler.At(config_.colour_strength,
                                         {.epoch = static_cast<double>(epoch),
                                          .total_epochs = static_cast<double>(config_.epochs)},
                                         0);
    };
    loader_ = std::make_unique<ReplicaLoader>(*training_set_, options, grid_, grid_.towers(), log_);
    loader_->Seek(epoch_, batch_);
    model_ = std::make_unique<RankModel>(*backend_, plan_, *store_, grid_.towers(),
                                         RankModel::Options{.dtype = config_.compute.dtype,
                                                            .rows = loader_->rows(),
                                                            .training = true,
                                                            .preprocessing = preprocessing_});
    step_runner_ = std::make_unique<TrainingStep>(
        *backend_, *stream_, plan_, *store_, *model_, grid_, optimizer_,
        BucketOptions{.overlap = config_.overlap, .wire = config_.reduce_dtype});
    if (world_.rank() == 0) {
      metrics_ = std::make_unique<MetricsFile>(folder_->metrics_path(), step_, log_);
      progress_ = std::make_unique<Progress>(log_, Progress::StyleOfTerminal());
    }
  }

  // Images of an evaluation batch over all ranks: with ten views, a tenth as many.
  int64_t EvaluationBatch() const {
    const int64_t rows =
        std::min<int64_t>(config_.batch_size, kMaxEvaluationBatch * grid_.shape().replicas);
    return std::max<int64_t>(rows / config_.views, grid_.shape().replicas);
  }

  void Announce() {
    log_.Info("{} on {}; {}", network_.name, world_.Describe(), backend_->Describe());
    log_.Info("{} replicas x {} towers, global batch {}, {} steps an epoch, {}",
              grid_.shape().replicas, grid_.shape().towers, config_.batch_size, StepsPerEpoch(),
              config_.steps ? fmt::format("{} steps", *config_.steps)
                            : fmt::format("{} epochs", config_.epochs));
  }

  // --- Time ---

  int64_t StepsPerEpoch() const { return loader_->batches_per_epoch(); }
  bool Finished() const {
    return epoch_ >= config_.epochs || (config_.steps && step_ >= *config_.steps);
  }
  double StepEpochs() const { return 1.0 / static_cast<double>(StepsPerEpoch()); }
  ScheduleInputs Now() const {
    return {.epoch = static_cast<double>(epoch_) + static_cast<double>(batch_) * StepEpochs(),
            .total_epochs = static_cast<double>(config_.epochs),
            .evaluations = &evaluations_};
  }
  // Steps until the end, from the start of the run.
  int64_t TotalSteps() const {
    const int64_t left = (config_.epochs - epoch_) * StepsPerEpoch() - batch_;
    const int64_t total = step_ + std::max<int64_t>(left, 0);
    return config_.steps ? std::min(total, *config_.steps) : total;
  }

  // --- One step ---

  void DoStep(double fetch_s) {
    const Clock::time_point exchange_start = Clock::now();
    const Batch& batch = loader_->Exchange();
    pending_ = StepMetrics{.step = step_ + 1, .epoch = epoch_};
    pending_->wait_data_ms = 1e3 * (fetch_s + Since(exchange_start));
    pending_->lr = optimizer_.LearningRateAt(Now(), StepEpochs());
    world_.SetStep(step_ + 1);
    const StepTimes times = step_runner_->Run(batch, Now(), StepEpochs(), config_.seed);
    pending_->wait_comm_ms = 1e3 * (times.exchange_wait_s + times.reduce_wait_s);
    ReportBadSamples();

    const double step_s = Since(last_step_end_);
    last_step_end_ = Clock::now();
    pending_->images_per_s = static_cast<double>(batch.global_count) / step_s;
    window_images_ += batch.global_count;
    window_s_ += step_s;
    ++step_;
    if (++batch_ == StepsPerEpoch()) {
      batch_ = 0;
      ++epoch_;
    }
  }

  // Agrees on the step that was done last, if there is one, and on what the ranks bring besides.
  StepVerdict FinishStep(StepReport report) {
    if (pending_) {
      report.loss = step_runner_->ReadLoss();
      report.non_finite = step_runner_->NonFinite();
    }
    const StepVerdict verdict = Agree(world_, report);
    if (!pending_) return verdict;
    loss_ = verdict.loss.loss / verdict.loss.weight;
    if (verdict.non_finite || !std::isfinite(loss_)) ThrowNonFinite(report.non_finite);
    pending_->loss = loss_;
    if (metrics_) metrics_->Add(*pending_);
    ShowProgress(*pending_);
    pending_.reset();
    return verdict;
  }

  [[noreturn]] void ThrowNonFinite(bool here) {
    RunTogether(world_, [&] {
      const std::string tensor = here ? step_runner_->FirstNonFinite() : std::string();
      if (!tensor.empty()) {
        throw Error(ExitCode::kNumbers,
                    fmt::format("step {}: the gradient of {} is not finite (rank {}, loss {})",
                                step_, tensor, world_.rank(), loss_),
                    "the last checkpoint is good; go on from it with a smaller --lr");
      }
    });
    throw Error(ExitCode::kNumbers, fmt::format("step {}: the loss is {}", step_, loss_),
                "the last checkpoint is good; go on from it with a smaller --lr");
  }

  void ShowProgress(const StepMetrics& metrics) {
    if (!progress_) return;
    const int64_t total = TotalSteps();
    const double per_step = Since(run_start_) / static_cast<double>(step_ - first_step_);
    const double remaining_s = per_step * static_cast<double>(total - step_);
    const bool prints = config_.print_freq > 0 && step_ % config_.print_freq == 0;
    const double images_per_s = window_s_ > 0 ? static_cast<double>(window_images_) / window_s_ : 0;
    const std::string text = fmt::format(
        "epoch {}/{}  step {}  loss {:.4f}  lr {:.3g}  {:.1f} images/s", metrics.epoch + 1,
        config_.epochs, metrics.step, metrics.loss, metrics.lr, images_per_s);
    progress_->Show(static_cast<double>(step_) / static_cast<double>(total), remaining_s, text);
    if (prints || step_ == total) {
      progress_->Line(fmt::format("{}  data {:.0f} ms  comm {:.0f} ms  {} left", text,
                                  metrics.wait_data_ms, metrics.wait_comm_ms,
                                  FormatDuration(remaining_s)));
    }
    if (prints) {
      window_images_ = 0;
      window_s_ = 0;
    }
  }

  void ReportBadSamples() {
    for (const BadSample& bad : loader_->loader().TakeBadSamples()) {
      log_.Warning("bad image {} ({}): {}; epoch {}, position {}", bad.name, bad.location,
                   bad.reason, bad.epoch + 1, bad.position);
    }
  }

  // --- After some steps ---

  void EvaluateIfDue() {
    if (!evaluation_loader_) return;
    const bool due = batch_ == 0 && epoch_ % config_.eval_every == 0;
    if (!due && !Finished()) return;
    RankModel model(*backend_, plan_, *store_, grid_.towers(),
                    {.dtype = config_.compute.dtype,
                     .rows = evaluation_loader_->rows(),
                     .training = false,
                     .preprocessing = preprocessing_});
    const EvaluationResult result =
        EvaluateModels({&model}, *evaluation_loader_, config_.views, network_.classes, false,
                       *backend_, *stream_, world_, progress_.get());
    const double error = 100 - result.top1;
    is_best_ =
        evaluations_.empty() || error < *std::min_element(evaluations_.begin(), evaluations_.end());
    evaluations_.push_back(error);
    if (metrics_) {
      metrics_->Add(EvaluationMetrics{.step = step_,
                                      .epoch = epoch_,
                                      .views = result.views,
                                      .images = result.images,
                                      .loss = result.loss,
                                      .top1 = result.top1,
                                      .top5 = result.top5});
    }
    log_.Info("epoch {}: validation loss {:.4f}, top-1 {:.2f} %, top-5 {:.2f} % of {} images{}",
              epoch_, result.loss, result.top1, result.top5, FormatCount(result.images),
              is_best_ ? " (best so far)" : "");
  }

  CheckpointInfo InfoNow() const {
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
            .rule = NameOf(config_.optimizer.rule),
            .settings = config_.settings,
            .version = kVersion,
            .ranks = world_.size(),
            .replicas = grid_.shape().replicas,
            .towers = grid_.shape().towers,
            .dtype = convoy::NameOf(config_.compute.dtype)};
  }

  // Collective. A save that fails for want of disk is a warning, the third in a row and one that
  // must succeed an error.
  void Save(Importance importance) {
    if (step_ == saved_step_) return;
    try {
      RunTogether(world_, [&] {
        if (grid_.replica() != 0) return;
        const std::string path =
            CheckpointFolder(config_.output_dir + "/checkpoints").PathOf(step_);
        SaveCheckpoint(path, InfoNow(), plan_, *store_, *backend_, *stream_, grid_.towers());
        if (!folder_) return;
        if (is_best_) folder_->checkpoints().MarkBest(step_);
        folder_->checkpoints().Prune(config_.keep);
      });
      failed_saves_ = 0;
      saved_step_ = step_;
      is_best_ = false;
    } catch (const Error& error) {
      const bool gives_up = importance == Importance::kMust || ++failed_saves_ >= kMaxFailedSaves;
      if (error.exit_code() != ExitCode::kDisk || gives_up) throw;
      log_.Warning("no checkpoint of step {}: {}; the run goes on", step_, error.what());
    }
  }

  RunConfig config_;
  World& world_;
  Log& log_;
  ProcessGrid grid_;
  NetworkSpec network_;
  RankPlan plan_;
  Optimizer optimizer_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Dataset> training_set_, validation_set_;
  std::optional<RunFolder> folder_;  // rank 0
  std::unique_ptr<ParameterStore> store_;
  Preprocessing preprocessing_;
  std::unique_ptr<ReplicaLoader> loader_, evaluation_loader_;
  std::unique_ptr<RankModel> model_;
  std::unique_ptr<TrainingStep> step_runner_;
  std::unique_ptr<MetricsFile> metrics_;  // rank 0
  std::unique_ptr<Progress> progress_;    // rank 0

  // `step_` updates are done; batch `batch_` of `epoch_` comes next.
  int64_t step_ = 0, epoch_ = 0, batch_ = 0;
  int64_t first_step_ = 0, saved_step_ = -1;
  std::vector<double> evaluations_;
  bool is_best_ = false;
  int failed_saves_ = 0;
  double loss_ = 0;
  std::optional<StepMetrics> pending_;  // of a step that the ranks have not agreed on yet
  Clock::time_point run_start_, last_step_end_;
  int64_t window_images_ = 0;  // since the last printed line
  double window_s_ = 0;
};

}  // namespace

TrainingResult Train(const RunConfig& config, World& world, Log& log) {
  RequireSameSettings(config.settings, world);
  return TrainingRun(config, world, log).Run();
}

}  // namespace convoy
