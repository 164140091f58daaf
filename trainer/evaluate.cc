// Evaluation and prediction from checkpoints.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "dataloader/dataset_view.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/engine.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/run/evaluation.h"
#include "trainer/run/run_setup.h"
#include "trainer/run/validation_classes.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

CheckpointInfo CheckedInfo(const std::string& path, World& world) {
  CheckpointInfo info;
  RunTogether(world, [&] {
    info = ReadCheckpointInfo(path);
    if (world.rank() == 0) SafetensorsReader(path).VerifyChecksums();
  });
  return info;
}

// Everything that several models of an ensemble share.
class Evaluator {
 public:
  Evaluator(const EvaluateConfig& config, World& world, Log& log)
      : config_(config),
        world_(world),
        log_(log),
        resources_(MakeComputeResources(config.compute, world, log)) {
    for (const std::string& path : config.checkpoints) infos_.push_back(CheckedInfo(path, world));
    CONVOY_CHECK(!infos_.empty(), "no checkpoint");
    const CheckpointInfo& first = infos_.front();
    RunTogether(world, [&] {
      for (size_t i = 1; i < infos_.size(); ++i) {
        if (GoTogether(infos_[i], first)) continue;
        throw Error(ExitCode::kUsage,
                    fmt::format("{} and {} do not go together: an ensemble reads the same crops "
                                "and knows the same classes",
                                config.checkpoints[0], config.checkpoints[i]));
      }
    });
    config_.loading.geometry = config.geometry.value_or(GeometryOf(first.geometry));
    config_.loading.resize = config.resize.value_or(first.resize);
    if (config.geometry || config.resize) {
      log.Info("crops as given: geometry {}, resize {}; the checkpoint has {}, {}",
               NameOf(config_.loading.geometry), config_.loading.resize, first.geometry,
               first.resize);
    }
  }

  // Compiles the models for a loader over `dataset`.
  void Prepare(std::shared_ptr<const Dataset> dataset) {
    const NetworkSpec network = NetworkOf(infos_.front());
    LoaderOptions options = EvaluationOptions(
        LoaderOptionsOf(config_.loading, network, config_.batch_size), config_.views);
    options.allocator = StagingMemoryOf(resources_);
    loader_ = std::make_unique<ReplicaLoader>(std::move(dataset), options, *resources_.grid, log_,
                                              BadSamplesCounted::kOverAllRanks);
    for (size_t i = 0; i < infos_.size(); ++i) Load(config_.checkpoints[i], infos_[i]);
  }

  EvaluationResult Run() {
    std::unique_ptr<Progress> progress;
    if (world_.rank() == 0) {
      progress = std::make_unique<Progress>(log_, Progress::StyleOfTerminal());
    }
    EvaluationResult result =
        EvaluateModels(models(), *loader_, resources_,
                       {.views = config_.views,
                        .classes = classes(),
                        .confusion = config_.confusion ? Confusion::kCounted : Confusion::kLeftOut,
                        .progress = progress.get()})
            .value();
    result.classes = info().classes;
    return result;
  }

  // The next batch of images, and the probabilities of its rows.
  struct RowProbabilities {
    std::vector<SampleInfo> samples;
    std::vector<double> values;  // [rows, classes]
  };
  RowProbabilities NextBatch() {
    loader_->Fetch();
    const Batch& batch = loader_->Exchange();
    return {batch.samples, MeanProbabilities(models(), batch, *resources_.stream)};
  }

  ReplicaLoader& loader() { return *loader_; }
  const CheckpointInfo& info() const { return infos_.front(); }
  int classes() const { return NetworkOf(infos_[0]).classes; }

 private:
  std::vector<RankModel*> models() const {
    std::vector<RankModel*> models;
    for (const auto& engine : engines_) models.push_back(&engine->model());
    return models;
  }
  static NetworkSpec NetworkOf(const CheckpointInfo& info) {
    return MakeModel(info.model, info.options);
  }
  static bool GoTogether(const CheckpointInfo& a, const CheckpointInfo& b) {
    const NetworkSpec network_a = NetworkOf(a), network_b = NetworkOf(b);
    return a.classes == b.classes && a.resize == b.resize && a.geometry == b.geometry &&
           network_a.classes == network_b.classes && network_a.input == network_b.input;
  }

  // Reads a checkpoint into a model of its own.
  void Load(const std::string& path, const CheckpointInfo& info) {
    auto engine = std::make_unique<Engine>(
        resources_, NetworkOf(info),
        EngineOptions{.use = StoreUse::kInference, .dtype = config_.compute.dtype});
    LoadCheckpoint(path, *engine);
    engine->Compile(loader_->rows(), info.preprocessing, log_);
    engines_.push_back(std::move(engine));
  }

  EvaluateConfig config_;
  World& world_;
  Log& log_;
  ComputeResources resources_;
  std::vector<CheckpointInfo> infos_;
  std::unique_ptr<ReplicaLoader> loader_;
  std::vector<std::unique_ptr<Engine>> engines_;
};

// The `top` largest of `probabilities`, ties by class number.
std::vector<Prediction::Candidate> MostProbable(const std::vector<double>& probabilities,
                                                const std::vector<std::string>& names, size_t top) {
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t shown = std::min(top, order.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
      [&](size_t a, size_t b) {
        return probabilities[a] != probabilities[b] ? probabilities[a] > probabilities[b] : a < b;
      });
  std::vector<Prediction::Candidate> candidates;
  for (size_t i = 0; i < shown; ++i) {
    const std::string name =
        order[i] < names.size() ? names[order[i]] : fmt::format("class {}", order[i]);
    candidates.push_back({name, probabilities[order[i]]});
  }
  return candidates;
}

}  // namespace

EvaluationResult Evaluate(const EvaluateConfig& config, World& world, Log& log) {
  Evaluator evaluator(config, world, log);
  auto dataset = OpenTogether(config.data, config.loading, world, log, EmptyClasses::kLeftOut);
  RunTogether(world, [&] {
    if (config.val_split > 0) dataset = SplitByName(dataset, config.val_split).held_out;
    RequireClasses(*dataset, config.data, evaluator.classes());
    dataset = WithClassesOfTraining(dataset, config.data, evaluator.info().classes);
  });
  log.Info("{}", dataset->Describe());
  evaluator.Prepare(dataset);
  return evaluator.Run();
}

std::vector<Prediction> Predict(const EvaluateConfig& config, const std::vector<std::string>& paths,
                                int top, Log& log) {
  const std::unique_ptr<World> world = MakeSelfWorld();
  EvaluateConfig any_number_of_bad_images = config;
  any_number_of_bad_images.loading.bad_sample_limit = kNoBadSampleLimit;
  Evaluator evaluator(any_number_of_bad_images, *world, log);
  const auto dataset = OpenImages(paths);
  if (!dataset->left_out().empty()) log.Info("{}", dataset->left_out().Sentence());
  evaluator.Prepare(dataset);
  std::vector<Prediction> predictions(static_cast<size_t>(dataset->size()));
  for (int64_t i = 0; i < dataset->size(); ++i) {
    predictions[static_cast<size_t>(i)].image = dataset->Name(i);
  }
  const auto classes = static_cast<size_t>(evaluator.classes());
  for (int64_t b = 0; b < evaluator.loader().batches_per_epoch(); ++b) {
    const auto batch = evaluator.NextBatch();
    for (size_t row = 0; row < batch.samples.size(); row += static_cast<size_t>(config.views)) {
      if (batch.samples[row].weight <= 0) continue;
      predictions[static_cast<size_t>(batch.samples[row].sample)].candidates =
          MostProbable(MeanOverViews(batch.values, row, config.views, classes),
                       evaluator.info().classes, static_cast<size_t>(top));
    }
  }
  for (const BadSample& bad : evaluator.loader().TakeBadSamples()) {
    for (Prediction& prediction : predictions) {
      if (prediction.image == bad.name) prediction.fault = bad.reason;
    }
  }
  return predictions;
}

}  // namespace convoy
