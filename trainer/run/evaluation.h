// trainer/run/evaluation.h - counts what a model gets right, each image once.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/device/stream.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/ranks/replica_loader.h"
#include "trainer/run/progress.h"
#include "trainer/step/rank_model.h"
#include "trainer/trainer.h"

namespace convoy {

// The models' probabilities of every row of `batch`, averaged: [rows, classes]. Collective over the
// towers; empty on a tower without the loss.
std::vector<double> MeanProbabilities(const std::vector<RankModel*>& models, const Batch& batch,
                                      Stream& stream);

// The average over the `views` rows from `row` on, those of one image: [classes].
std::vector<double> MeanOverViews(const std::vector<double>& probabilities, size_t row, int views,
                                  size_t classes);

enum class Confusion { kLeftOut, kCounted };

struct EvaluationPass {
  int views = 1;  // of an image, in neighbouring rows
  int classes = 0;
  Confusion confusion = Confusion::kLeftOut;
  Progress* progress = nullptr;      // may be null
  std::function<bool()> stop_asked;  // may be empty
};

// Runs `loader` (sequential, not augmented) once through `models`, which have loader.rows() rows.
// Averages their probabilities, first over the views of an image, then over the models. Returns
// nothing if stop_asked said so on any rank before the end. Throws (kData) if too many images are
// bad, counted over all ranks, or none was evaluated. Collective over the world.
std::optional<EvaluationResult> EvaluateModels(const std::vector<RankModel*>& models,
                                               ReplicaLoader& loader,
                                               const ComputeResources& resources,
                                               const EvaluationPass& pass);

// Loader options for one pass in order: centre view, or ten views. Bad images are left out.
LoaderOptions EvaluationOptions(LoaderOptions options, int views);

}  // namespace convoy
