// trainer/run/run_setup.h - what training, evaluation and benches set up alike.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/world.h"
#include "core/host/log.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"
#include "layers/spec.h"
#include "trainer/run_config.h"
#include "trainer/step/rank_model.h"

namespace convoy {

// Opens a data set on every rank, together. Throws (kData) on all of them when one cannot, or when
// hosts have different copies.
std::shared_ptr<const Dataset> OpenTogether(const std::string& location, const DataConfig& config,
                                            World& world, Log& log,
                                            EmptyClasses empty_classes = EmptyClasses::kRefused);

// Throws (kUsage) unless labels of `dataset` fit into `classes` classes.
void RequireClasses(const Dataset& dataset, const std::string& location, int classes);

// Throws (kUsage) if one of the micro-batches of a global batch would have no image.
void RequireMicroBatches(int64_t global_batch, int micro_batches);

// Shared by training and evaluation loaders; the caller sets order, seed, augmentation and views.
LoaderOptions LoaderOptionsOf(const DataConfig& config, const NetworkSpec& network,
                              int64_t global_batch);

// The run's mean and standard deviation: from the statistics kept beside the data set if there are
// any, else worked out from up to 10,000 images, shared among the ranks. Collective.
Preprocessing PreprocessingOf(const RunConfig& config, const NetworkSpec& network,
                              const Dataset& dataset, World& world, Log& log);

inline constexpr Geometry kGeometries[] = {Geometry::kSquare2012, Geometry::kRectangle,
                                           Geometry::kSquash, Geometry::kRandomResized};
const char* NameOf(Geometry geometry);
Geometry GeometryOf(const std::string& name);

}  // namespace convoy
