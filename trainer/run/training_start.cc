// What a run does before its first step: data, weights, the place to go on from.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/text.h"
#include "trainer/checkpoint/info.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/kernel_cache.h"
#include "trainer/run/evaluation.h"
#include "trainer/run/session.h"
#include "trainer/run/training_run.h"
#include "trainer/run/validation_classes.h"

namespace convoy {
namespace {

constexpr int64_t kMaxEvaluationBatch = 64;

}  // namespace

TrainingRun::TrainingRun(const RunConfig& config, World& world, Log& log)
    : config_(config),
      world_(world),
      log_(log),
      resources_(MakeComputeResources(config.compute, world, log)),
      training_set_(OpenTogether(config.data, config.loading, world, log)) {
  RunTogether(world_, [&] {
    const auto classes = static_cast<int>(training_set_->classes().size());
    if (!config_.model_options.classes && classes > 0) config_.model_options.classes = classes;
    network_ = MakeModel(config_.model, config_.model_options);
    RequireClasses(*training_set_, config_.data, network_.classes);
    RequireUtf8(training_set_->classes());
    RequireUtf8({config_.settings});
    if (training_set_->size() < 1) throw Error(ExitCode::kData, config_.data + " has no images");
    plan_ = MakePlan(network_, grid().shape(), world_.rank());
    optimizer_.emplace(config_.optimizer, plan_);
  });
  log_.Info("{}", training_set_->Describe());
  if (!config_.validation.empty() && config_.eval_every > 0) OpenValidation();

  const int64_t state_bytes = 2 * CountsOf(network_).parameters * SizeOf(backend().master_dtype());
  std::optional<std::string> resumed;
  RunTogether(world_, [&] {
    if (world_.rank() != 0) return;
    folder_.emplace(config_.output_dir, state_bytes);
    RemoveExitRecords(config_.output_dir);
    resumed = folder_->CheckpointToResume(config_.resume, log_);
    folder_->WriteSettings(config_.settings);
  });
  store_ =
      std::make_unique<ParameterStore>(backend(), plan_, config_.compute.dtype, StoreUse::kTraining,
                                       CollectiveMemoryOf(resources_, grid().replicas(), world_));
  Start(resumed);
  MakeModelAndLoaders();
}

void TrainingRun::OpenValidation() {
  validation_set_ = OpenTogether(config_.validation, config_.loading, world_, log_);
  RunTogether(world_, [&] {
    RequireClasses(*validation_set_, config_.validation, network_.classes);
    validation_set_ =
        WithClassesOfTraining(validation_set_, config_.validation, training_set_->classes());
  });
  log_.Info("validation: {}", validation_set_->Describe());
}

// Fresh weights, or those of a checkpoint.
void TrainingRun::Start(const std::optional<std::string>& resumed_on_rank_0) {
  int32_t resumes = resumed_on_rank_0.has_value() ? 1 : 0;
  HostStream host;
  world_.all().Broadcast(host, {&resumes, DType::kInt32, Shape{1}}, 0, "where to start").Wait(host);
  if (resumes == 0) {
    store_->Initialize(config_.seed, stream());
    preprocessing_ = PreprocessingOf(config_, network_, *training_set_, world_, log_);
    return;
  }
  CheckpointInfo saved;
  RunTogether(world_, [&] {
    if (world_.rank() != 0) return;
    saved = ReadCheckpointInfo(*resumed_on_rank_0);
    RequireResumable(saved, *resumed_on_rank_0);
    folder_->checkpoints().SetAsideAfter(saved.step, log_);
    log_.Info("going on from {}: step {}, epoch {}", *resumed_on_rank_0, saved.step, saved.epoch);
    if (saved.ranks != world_.size() || saved.global_batch != config_.batch_size) {
      log_.Info(
          "it was written by {} ranks with batches of {}, now {} with {}; the order of the "
          "images stays, --lr is taken as given",
          saved.ranks, saved.global_batch, world_.size(), config_.batch_size);
    }
  });
  LoadCheckpoint(resumed_on_rank_0.value_or(""), plan_, *store_, backend(), stream(), world_);
  store_->RefreshCompute(stream());
  TakePosition(saved);
  // Timed choices are those of the kind of device that timed them.
  if (saved.platform == backend().Platform()) resumed_choices_ = saved.kernel_choices;
  KernelChoices choices = resumed_choices_;
  choices.merge(KernelChoices(resources_.kernel_cache.choices()));  // where they name nothing
  ShareKernelChoices(world_, backend(), choices, 0);
}

void TrainingRun::RequireResumable(const CheckpointInfo& saved, const std::string& path) const {
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
void TrainingRun::TakePosition(CheckpointInfo& saved) {
  HostStream host;
  int64_t numbers[] = {saved.step,
                       saved.epoch,
                       saved.batch * saved.global_batch / config_.batch_size,
                       static_cast<int64_t>(saved.evaluations.size()),
                       static_cast<int64_t>(saved.preprocessing.mean.size()),
                       static_cast<int64_t>(saved.preprocessing.standard_deviation.size()),
                       saved.evaluation_due ? 1 : 0};
  const auto broadcast = [&](void* data, DType dtype, int64_t count) {
    world_.all().Broadcast(host, {data, dtype, Shape{count}}, 0, "where to start").Wait(host);
  };
  broadcast(numbers, DType::kInt64, std::ssize(numbers));
  step_ = numbers[0];
  epoch_ = numbers[1];
  batch_ = numbers[2];
  evaluation_due_ = numbers[6] != 0;
  evaluations_ = saved.evaluations;
  preprocessing_ = saved.preprocessing;
  evaluations_.resize(static_cast<size_t>(numbers[3]));
  preprocessing_.mean.resize(static_cast<size_t>(numbers[4]));
  preprocessing_.standard_deviation.resize(static_cast<size_t>(numbers[5]));
  broadcast(evaluations_.data(), DType::kFloat64, numbers[3]);
  broadcast(preprocessing_.mean.data(), DType::kFloat32, numbers[4]);
  broadcast(preprocessing_.standard_deviation.data(), DType::kFloat32, numbers[5]);
}

void TrainingRun::MakeModelAndLoaders() {
  LoaderOptions options = LoaderOptionsOf(config_.loading, network_, config_.batch_size);
  options.allocator = StagingMemoryOf(resources_);
  if (validation_set_) {
    LoaderOptions evaluation = EvaluationOptions(options, config_.views);
    evaluation.global_batch = EvaluationBatch();
    evaluation_loader_ = std::make_unique<ReplicaLoader>(validation_set_, evaluation, grid(), log_);
  }
  options.seed = config_.seed;
  options.crop.random = config_.augment;
  options.crop.colour = network_.input[2] == 3 ? config_.colour : ColourNoise::kNone;
  options.crop.colour_strength = [schedule = config_.colour_scheduler,
                                  strength = config_.colour_strength,
                                  epochs = static_cast<double>(config_.epochs)](int64_t epoch) {
    return schedule.At(strength, {.epoch = static_cast<double>(epoch), .total_epochs = epochs}, 0);
  };
  loader_ = std::make_unique<ReplicaLoader>(training_set_, options, grid(), log_);
  loader_->Seek(epoch_, batch_);
  CompileTogether(world_, resources_, log_, [&] {
    model_ = std::make_unique<RankModel>(backend(), plan_, *store_, grid().towers(),
                                         ModelOptionsFor(*loader_, true));
  });
  step_runner_ = std::make_unique<TrainingStep>(
      backend(), stream(), plan_, *store_, *model_, grid(), *optimizer_, PlanBuckets(plan_),
      TrainingStepOptions{
          .buckets = {.overlap = config_.overlap,
                      .wire = config_.reduce_dtype,
                      .allocate_wire = CollectiveMemoryOf(resources_, grid().replicas(), world_)},
          .records = config_.compute.record_steps});
  loader_log_.emplace(
      fmt::format("{}/bad-samples-rank-{}.jsonl", config_.output_dir, world_.rank()), step_,
      /*keeps_evaluation=*/!evaluation_due_, config_.loading.workers, log_);
  if (world_.rank() == 0) {
    metrics_ = std::make_unique<MetricsFile>(folder_->metrics_path(), step_,
                                             /*keeps_evaluation=*/!evaluation_due_, log_);
    progress_ = std::make_unique<Progress>(log_, Progress::StyleOfTerminal());
  }
}

RankModel::Options TrainingRun::ModelOptionsFor(const ReplicaLoader& loader, bool training) const {
  return {.dtype = config_.compute.dtype,
          .rows = loader.rows(),
          .training = training,
          .preprocessing = preprocessing_,
          .exchange_memory = CollectiveMemoryOf(resources_, grid().towers(), world_)};
}

// Images of an evaluation batch over all ranks: with ten views, a tenth as many.
int64_t TrainingRun::EvaluationBatch() const {
  const int64_t rows =
      std::min<int64_t>(config_.batch_size, kMaxEvaluationBatch * grid().shape().replicas);
  return std::max<int64_t>(rows / config_.views, grid().shape().replicas);
}

void TrainingRun::Announce() {
  log_.Info("{} on {}; {}", network_.name, world_.Describe(), resources_.Describe());
  log_.Info(
      "{} x {}, global batch {}, {} an epoch, {}", FormatCount(grid().shape().replicas, "replica"),
      FormatCount(grid().shape().towers, "tower"), config_.batch_size,
      FormatCount(StepsPerEpoch(), "step"),
      config_.steps ? FormatCount(*config_.steps, "step") : FormatCount(config_.epochs, "epoch"));
}

}  // namespace convoy
