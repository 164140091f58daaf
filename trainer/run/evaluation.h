// trainer/run/evaluation.h - counts what a model gets right, each image once.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/world.h"
#include "core/device/stream.h"
#include "trainer/ranks/replica_loader.h"
#include "trainer/run/progress.h"
#include "trainer/step/rank_model.h"
#include "trainer/trainer.h"

namespace convoy {

// The models' probabilities of every row of `batch`, averaged: [rows, classes]. Collective over the
// towers; empty on a tower without the loss.
std::vector<double> MeanProbabilities(const std::vector<RankModel*>& models, const Batch& batch,
                                      Backend& backend, Stream& stream);

// The average over the `views` rows from `row` on, those of one image: [classes].
std::vector<double> MeanOverViews(const std::vector<double>& probabilities, size_t row, int views,
                                  size_t classes);

// One pass of `loader` (sequential, not augmented) through `models`, whose probabilities are
// averaged, first over the views of an image, then over the models. Collective over the world.
// Throws (kData) if too many images are bad, counted over all ranks, or none was evaluated.
// `progress` may be null. The models have loader.rows() rows. Returns nothing if `stop_asked`,
// which may be empty, said so on any rank before the end.
std::optional<EvaluationResult> EvaluateModels(const std::vector<RankModel*>& models,
                                               ReplicaLoader& loader, int views, int classes,
                                               bool confusion, Backend& backend, Stream& stream,
                                               World& world, Progress* progress,
                                               const std::function<bool()>& stop_asked = {});

// Loader options for one pass in order: centre view, or ten views. Bad images are left out.
LoaderOptions EvaluationOptions(LoaderOptions options, int views);

}  // namespace convoy
