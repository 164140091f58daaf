#include "trainer/run/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/host/clock.h"
#include "core/text.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/step_verdict.h"

namespace convoy {
namespace {

// Sums over images on one rank; added over all ranks at the end.
struct Sums {
  double images = 0, loss = 0, top1 = 0, top5 = 0;
};

class Counter {
 public:
  explicit Counter(const EvaluationPass& pass)
      : views_(pass.views), classes_(static_cast<size_t>(pass.classes)) {
    if (pass.confusion == Confusion::kCounted) confusion_.assign(classes_ * classes_, 0.0);
  }

  // `probabilities` [rows, classes], the views of one image in neighbouring rows.
  void Add(const std::vector<double>& probabilities, const Batch& batch) {
    for (size_t row = 0; row < batch.samples.size(); row += static_cast<size_t>(views_)) {
      const SampleInfo& sample = batch.samples[row];
      if (sample.weight <= 0) continue;
      Count(MeanOverViews(probabilities, row, views_, classes_), static_cast<size_t>(sample.label));
    }
  }

  Sums& sums() { return sums_; }
  std::vector<double>& confusion() { return confusion_; }

 private:
  void Count(const std::vector<double>& probabilities, size_t label) {
    size_t before = 0, best = 0;
    for (size_t c = 0; c < classes_; ++c) {
      // A NaN is never right.
      const bool beats = !(probabilities[c] <= probabilities[label]) ||
                         (probabilities[c] == probabilities[label] && c < label);
      before += beats ? 1 : 0;
      if (probabilities[c] > probabilities[best]) best = c;
    }
    sums_.images += 1;
    // The smallest double keeps the loss finite if a probability underflows.
    sums_.loss -= std::log(std::max(probabilities[label], 1e-300));
    sums_.top1 += before < 1 ? 1 : 0;
    sums_.top5 += before < 5 ? 1 : 0;
    if (!confusion_.empty()) confusion_[label * classes_ + best] += 1;
  }

  int views_;
  size_t classes_;
  Sums sums_;
  std::vector<double> confusion_;
};

void SumOverRanks(World& world, double* values, int64_t count) {
  HostStream stream;
  world.all()
      .AllReduce(stream, {values, DType::kFloat64, Shape{count}}, ReduceOp::kSum, "evaluation")
      .Wait(stream);
}

}  // namespace

std::vector<double> MeanProbabilities(const std::vector<RankModel*>& models, const Batch& batch,
                                      Stream& stream) {
  std::vector<double> mean;
  for (RankModel* model : models) {
    model->Evaluate(stream, batch);
    const std::vector<double> own = model->ReadProbabilities(stream);
    if (own.empty()) continue;
    mean.resize(own.size());
    for (size_t i = 0; i < own.size(); ++i) {
      mean[i] += own[i] / static_cast<double>(models.size());
    }
  }
  return mean;
}

std::vector<double> MeanOverViews(const std::vector<double>& probabilities, size_t row, int views,
                                  size_t classes) {
  std::vector<double> mean(classes);
  for (size_t v = 0; v < static_cast<size_t>(views); ++v) {
    for (size_t c = 0; c < classes; ++c) {
      mean[c] += probabilities[(row + v) * classes + c] / views;
    }
  }
  return mean;
}

LoaderOptions EvaluationOptions(LoaderOptions options, int views) {
  options.order = Order::kSequential;
  options.crop.random = false;
  options.crop.views = views;
  options.crop.colour = ColourNoise::kNone;
  // A substitute would count as another image; a bad one is left out.
  if (options.bad_samples == BadSamplePolicy::kSubstitute) {
    options.bad_samples = BadSamplePolicy::kDrop;
  }
  return options;
}

std::optional<EvaluationResult> EvaluateModels(const std::vector<RankModel*>& models,
                                               ReplicaLoader& loader,
                                               const ComputeResources& resources,
                                               const EvaluationPass& pass) {
  World& world = *resources.world;
  Stream& stream = *resources.stream;
  Counter counter(pass);
  const int64_t batches = loader.batches_per_epoch();
  const auto start = Clock::now();
  EvaluationResult result;
  result.views = pass.views;
  loader.Seek(0, 0);
  for (int64_t b = 0; b < batches; ++b) {
    StepReport report{.stop = pass.stop_asked && pass.stop_asked()};
    try {
      loader.Fetch();
    } catch (const Error& error) {
      report.fault = error;
    }
    report.bad_samples = loader.bad_samples();
    const StepVerdict verdict = Agree(world, report);
    if (verdict.stop) return std::nullopt;
    loader.CountBadSamples(world, verdict.bad_samples);
    result.left_out += verdict.bad_samples;
    const Batch& batch = loader.Exchange();
    const std::vector<double> probabilities = MeanProbabilities(models, batch, stream);
    if (!probabilities.empty()) counter.Add(probabilities, batch);
    if (pass.progress != nullptr) {
      const double done = static_cast<double>(b + 1) / static_cast<double>(batches);
      const double elapsed = SecondsSince(start);
      pass.progress->Show(done, elapsed * (1 - done) / done, "evaluating");
    }
  }

  // A tower without the loss has waited for nothing, and its models' memory may go next.
  stream.Synchronize();
  Sums& sums = counter.sums();
  double values[] = {sums.images, sums.loss, sums.top1, sums.top5};
  SumOverRanks(world, values, 4);
  result.images = std::llround(values[0]);
  if (result.images == 0) {
    throw AgreedError(Error(ExitCode::kData, "evaluated none of the images: all of them are bad",
                            "check the data set with: convoy data verify"),
                      0);
  }
  result.loss = values[1] / values[0];
  result.top1 = 100 * values[2] / values[0];
  result.top5 = 100 * values[3] / values[0];
  if (pass.confusion == Confusion::kCounted) {
    std::vector<double>& cells = counter.confusion();
    SumOverRanks(world, cells.data(), static_cast<int64_t>(cells.size()));
    const auto width = static_cast<size_t>(pass.classes);
    result.confusion.assign(width, std::vector<int64_t>(width));
    for (size_t i = 0; i < cells.size(); ++i) {
      result.confusion[i / width][i % width] = std::llround(cells[i]);
    }
  }
  return result;
}

}  // namespace convoy
