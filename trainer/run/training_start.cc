// What a run does before its first step: data, weights, the place to go on from.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/text.h"
#include "dataloader/dataset_view.h"
#include "trainer/checkpoint/info.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/kernel_cache.h"
#include "trainer/run/evaluation.h"
#include "trainer/run/resume_rules.h"
#include "trainer/run/run_setup.h"
#include "trainer/run/training_run.h"
#include "trainer/run/validation_classes.h"

namespace convoy {
namespace {

constexpr int64_t kMaxEvaluationBatch = 64;

// Throws (kUsage) when a schedule waits for evaluations that never come.
void RequireEvaluations(const RunConfig& config) {
  if (config.colour_scheduler.NeedsEvaluations()) {
    throw Error(ExitCode::kUsage,
                fmt::format("--colour-scheduler {}: colour does not follow "
                            "evaluations",
                            config.colour_scheduler.text()),
                "take another schedule");
  }
  const bool validates = !config.validation.empty() || config.val_split > 0;
  if (validates && config.eval_every > 0) return;
  const auto require = [&](const Schedule& schedule, const char* option) {
    if (!schedule.NeedsEvaluations()) return;
    throw Error(
        ExitCode::kUsage,
        fmt::format("{} {}: there are no evaluations, so that the rate would never change", option,
                    schedule.text()),
        "give --val or --val-split, and an --eval-every of 1 or more, or take another schedule");
  };
  require(config.optimizer.lr_scheduler, "--lr-scheduler");
  for (const ParameterGroup& group : config.optimizer.groups) {
    if (group.lr_scheduler) require(*group.lr_scheduler, "--param-group lr-scheduler");
  }
}

// Ranks that are to be compared keep all states: what only one rank has cannot be.
ShardUpdate ShardUpdateOf(const RunConfig& config) {
  const bool compares = config.check_replicas > 0 && config.shard_update == ShardUpdate::kAuto;
  return compares ? ShardUpdate::kOff : config.shard_update;
}

}  // namespace

TrainingResult Train(const RunConfig& config, World& world, Log& log,
                     const std::function<void()>& on_begin) {
  // What is wrong with the settings is found before any data is opened.
  RunTogether(world, [&] {
    RequireEvaluations(config);
    RequireMicroBatches(config.batch_size, config.accumulate);
    RequireTrainable(MakeModel(config.model, config.model_options), GridOf(config.compute, world),
                     config.optimizer);
  });
  TrainingRun run(config, world, log);
  if (run.HasWork() && on_begin) on_begin();
  return run.Run();
}

TrainingRun::TrainingRun(const RunConfig& config, World& world, Log& log)
    : config_(config),
      world_(world),
      log_(log),
      resources_(MakeComputeResources(config.compute, world, log)),
      training_set_(OpenTogether(config.data, config.loading, world, log)) {
  RunTogether(world_, [&] {
    if (config_.val_split > 0) HoldOut();
    const auto classes = static_cast<int>(training_set_->classes().size());
    if (!config_.model_options.classes && classes > 0) config_.model_options.classes = classes;
    network_ = MakeModel(config_.model, config_.model_options);
    RequireClasses(*training_set_, config_.data, network_.classes);
    RequireUtf8(training_set_->classes());
    RequireUtf8({config_.settings});
    if (training_set_->size() < 1) throw Error(ExitCode::kData, config_.data + " has no images");
  });
  log_.Info("{}", training_set_->Describe());
  if (!config_.validation.empty() && config_.eval_every > 0) OpenValidation();
  if (validation_set_) log_.Info("validation: {}", validation_set_->Describe());

  CheckpointInfo saved;
  std::string origin;
  const Beginning beginning = ChooseBeginning(saved, origin);
  if (beginning != Beginning::kFresh) TakePosition(saved);
  if (beginning == Beginning::kAtTheEnd) return;
  engine_ = std::make_unique<Engine>(resources_, network_,
                                     EngineOptions{.dtype = config_.compute.dtype,
                                                   .optimizer = config_.optimizer,
                                                   .overlap = config_.overlap,
                                                   .reduce_dtype = config_.reduce_dtype,
                                                   .record_steps = config_.compute.record_steps,
                                                   .micro_batches = config_.accumulate,
                                                   .shard_update = ShardUpdateOf(config_)});
  if (beginning == Beginning::kFresh) {
    engine_->store().Initialize(config_.seed, *resources_.stream);
    preprocessing_ = PreprocessingOf(config_, network_, *training_set_, world_, log_);
  } else {
    LoadFrom(origin, saved);
  }
  MakeModelAndLoaders();
  TakeFolder(beginning);
}

// Cuts the validation set off the training set.
void TrainingRun::HoldOut() {
  DatasetSplit split = SplitByName(training_set_, config_.val_split);
  training_set_ = std::move(split.training);
  if (config_.eval_every > 0) validation_set_ = std::move(split.held_out);
}

void TrainingRun::OpenValidation() {
  validation_set_ =
      OpenTogether(config_.validation, config_.loading, world_, log_, EmptyClasses::kLeftOut);
  RunTogether(world_, [&] {
    RequireClasses(*validation_set_, config_.validation, network_.classes);
    validation_set_ =
        WithClassesOfTraining(validation_set_, config_.validation, training_set_->classes());
  });
}

// Rank 0 decides, and `saved` and `origin` are of its checkpoint there. Changes nothing on disk.
TrainingRun::Beginning TrainingRun::ChooseBeginning(CheckpointInfo& saved, std::string& origin) {
  auto beginning = static_cast<int32_t>(Beginning::kFresh);
  RunTogether(world_, [&] {
    if (world_.rank() != 0) return;
    folder_.emplace(config_.output_dir, log_);
    const std::optional<std::string> checkpoint = folder_->CheckpointToResume(config_.resume, log_);
    if (checkpoint) {
      origin = *checkpoint;
      saved = ReadCheckpointInfo(origin);
      beginning = static_cast<int32_t>(RequireResumable(saved, origin) ? Beginning::kResumed
                                                                       : Beginning::kAtTheEnd);
    }
    if (beginning != static_cast<int32_t>(Beginning::kAtTheEnd)) {
      folder_->RequireRoom(StateBytes());
    }
  });
  HostStream host;
  world_.all()
      .Broadcast(host, {&beginning, DType::kInt32, Shape{1}}, 0, "where to start")
      .Wait(host);
  return static_cast<Beginning>(beginning);
}

void TrainingRun::LoadFrom(const std::string& origin, const CheckpointInfo& saved) {
  LoadCheckpoint(origin, *engine_);
  TakeUpdates(saved);
  // Timed choices are those of the kind of device that timed them.
  if (saved.platform == backend().Platform()) resumed_choices_ = saved.kernel_choices;
  KernelChoices choices = resumed_choices_;
  choices.merge(KernelChoices(resources_.kernel_cache.choices()));  // for other products
  ShareKernelChoices(resources_, choices, 0);
}

// Rank 0's checkpoint says how many updates each parameter has had.
void TrainingRun::TakeUpdates(const CheckpointInfo& saved) {
  std::vector<int64_t> updates;
  for (const std::string& name : engine_->optimizer().ParameterNames()) {
    const auto found = saved.updates.find(name);
    updates.push_back(found != saved.updates.end() ? found->second : step_);
  }
  HostStream host;
  world_.all()
      .Broadcast(host, {updates.data(), DType::kInt64, Shape{std::ssize(updates)}}, 0,
                 "where to start")
      .Wait(host);
  engine_->optimizer().SetUpdates(updates);
}

// Says what differs. False: the run is finished.
bool TrainingRun::RequireResumable(const CheckpointInfo& saved, const std::string& path) {
  std::vector<std::string> differences = DifferencesThatForbidResume(saved, InfoNow());
  // Without what would be computed from the data.
  RunConfig given = config_;
  if (given.mean != MeanKind::kValues) given.mean = MeanKind::kNone;
  const auto preprocessing = PreprocessingDifferences(
      saved, config_, PreprocessingOf(given, network_, *training_set_, world_, log_));
  differences.insert(differences.end(), preprocessing.begin(), preprocessing.end());
  if (!differences.empty()) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("cannot go on from {}: {}", path, fmt::join(differences, "; ")),
                "give the settings of that run, or another --output-dir, or start anew with "
                "--resume none, which keeps that run");
  }
  const std::vector<SettingChange> changes = ChangedSettings(saved.settings, config_.settings);
  if (const std::optional<RunEnd> end = EndReached(saved, config_)) {
    RequireSameFinishedRun(changes, *end, saved, path);
    return false;
  }
  if (saved.batch * saved.global_batch % config_.batch_size != 0) {
    throw Error(
        ExitCode::kUsage,
        fmt::format("--batch-size {}: the checkpoint stands after {} images of its epoch, "
                    "in batches of {}",
                    config_.batch_size, saved.batch * saved.global_batch, saved.global_batch),
        "go on with the same batch size to the end of the epoch");
  }
  log_.Info("going on from {}: step {}, epoch {}", path, saved.step, saved.epoch);
  if (saved.ranks != world_.size() || saved.global_batch != config_.batch_size) {
    log_.Info(
        "it was written by {} ranks with batches of {}, now {} with {}; the order of the "
        "images stays, --lr is taken as given",
        saved.ranks, saved.global_batch, world_.size(), config_.batch_size);
  }
  for (const SettingChange& change : changes) {
    log_.Info("changed since the checkpoint: {} ({})", change.ToString(),
              EffectOf(change, config_));
  }
  return true;
}

void TrainingRun::RequireSameFinishedRun(const std::vector<SettingChange>& changes,
                                         const RunEnd& end, const CheckpointInfo& saved,
                                         const std::string& path) const {
  const std::string is_finished =
      fmt::format("the run in {} is finished ({}: step {}, epoch {}; {} asks for no more)",
                  config_.output_dir, path, saved.step, saved.epoch, end.option);
  const std::vector<SettingChange> others = ChangesOfAFinishedRun(changes, end);
  if (others.empty()) {
    log_.Info(
        "{}: a larger {} goes on, --resume none starts anew and keeps this run, another "
        "--output-dir makes another run",
        is_finished, end.option);
    return;
  }
  std::vector<std::string> texts;
  for (const SettingChange& change : others) texts.push_back(change.ToString());
  throw Error(
      ExitCode::kUsage,
      fmt::format("nothing was trained: {}, and these settings are not its own: {}", is_finished,
                  fmt::join(texts, "; ")),
      fmt::format("give this run an --output-dir of its own, or --resume none to start anew "
                  "(that run is kept); a larger {} goes on with the new settings",
                  end.option));
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
    evaluation_loader_ = std::make_unique<ReplicaLoader>(validation_set_, evaluation, grid(), log_,
                                                         BadSamplesCounted::kOverAllRanks);
  }
  options.seed = config_.seed;
  options.micro_batches = config_.accumulate;
  options.crop.random = config_.augment;
  options.crop.colour = network_.input[2] == 3 ? config_.colour : ColourNoise::kNone;
  options.crop.colour_strength = [schedule = config_.colour_scheduler,
                                  strength = config_.colour_strength,
                                  total = TotalEpochs()](int64_t epoch) {
    return schedule.At(strength, {.epoch = static_cast<double>(epoch), .total_epochs = total});
  };
  loader_ = std::make_unique<ReplicaLoader>(training_set_, options, grid(), log_,
                                            BadSamplesCounted::kOverAllRanks);
  loader_->Seek(epoch_, batch_);
  engine_->Compile(loader_->rows(), preprocessing_, log_);
  if (world_.rank() == 0) {
    progress_ = std::make_unique<Progress>(log_, Progress::StyleOfTerminal());
  }
}

// Every check has passed: from here on the folder is this run's.
void TrainingRun::TakeFolder(Beginning beginning) {
  RunTogether(world_, [&] {
    if (world_.rank() != 0) return;
    const bool resumed = beginning == Beginning::kResumed;
    folder_->Begin(resumed ? std::optional(step_) : std::nullopt, config_.settings, log_);
    metrics_ = std::make_unique<MetricsFile>(folder_->metrics_path(), step_,
                                             /*keeps_evaluation=*/!evaluation_due_, log_);
  });
  loader_log_.emplace(
      fmt::format("{}/bad-samples-rank-{}.jsonl", config_.output_dir, world_.rank()), step_,
      /*keeps_evaluation=*/!evaluation_due_, config_.loading.workers, log_);
}

int64_t TrainingRun::StateBytes() const {
  const int64_t arenas = 1 + std::ssize(StateNamesOf(config_.optimizer.rule));
  return arenas * CountsOf(network_).parameters * SizeOf(resources_.backend->master_dtype());
}

// Images of an evaluation batch over all ranks: with ten views, a tenth as many.
int64_t TrainingRun::EvaluationBatch() const {
  // No larger than what training holds at a time.
  const int64_t trained = (config_.batch_size + config_.accumulate - 1) / config_.accumulate;
  const int64_t rows = std::min<int64_t>(trained, kMaxEvaluationBatch * grid().shape().row_parts());
  return std::max<int64_t>(rows / config_.views, grid().shape().row_parts());
}

void TrainingRun::Announce() {
  log_.Info("{} on {}; {}", network_.name, world_.Describe(), resources_.Describe());
  const GridShape& shape = grid().shape();
  std::string cut = FormatCount(shape.replicas, "replica");
  if (shape.shards > 1) cut += " x " + FormatCount(shape.shards, "shard");
  cut += " x " + FormatCount(shape.towers, "tower");
  log_.Info(
      "{}, global batch {}, {} an epoch, {}", cut, config_.batch_size,
      FormatCount(StepsPerEpoch(), "step"),
      config_.steps ? FormatCount(*config_.steps, "step") : FormatCount(config_.epochs, "epoch"));
  if (engine_->plan().options.shards_update) {
    log_.Info(
        "each rank updates a part of the parameters that others hold too, and has its states");
  }
  if (config_.accumulate > 1) {
    log_.Info("a step adds the gradients of {} micro-batches{}", config_.accumulate,
              HasBatchNorm(network_)
                  ? "; batch norm normalises over each of them, and not over the global "
                    "batch"
                  : "");
  }
}

}  // namespace convoy
