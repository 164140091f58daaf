// trainer/data_statistics.h - the mean of a training set, worked out by all ranks or found
// where it is kept.
#pragma once

#include <cstdint>
#include <functional>

#include "comm/world.h"
#include "core/host/log.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"
#include "dataloader/statistics.h"
#include "trainer/run_config.h"

namespace convoy {

struct StatisticsRequest {
  Geometry geometry = Geometry::kSquare2012;
  int resize = 256, channels = 3;
  int64_t count = 0;  // images, evenly spaced over the set
  // Threads, and what becomes of bad images. The default limit is that of `count` images.
  DataConfig loading;

  // Images that rank `rank` of `ranks` reads.
  int64_t FirstOf(int rank, int ranks) const { return rank * count / ranks; }
};

// Adds up the images, shared among the ranks. Collective: all ranks get the result, and only
// rank 0 its stamp. Bad images are left out and named on `log`. Throws (kData) an AgreedError if
// too many are bad, counted over all ranks, or any with BadSamplePolicy::kFail. `progress`, which
// may be empty, is told of this rank's images done.
DataStatistics ComputeStatistics(const Dataset& dataset, const StatisticsRequest& request,
                                 World& world, Log& log,
                                 const std::function<void(int64_t)>& progress = {});

// Those of the training set `dataset` of the run `config`: kept beside its index, else worked out
// from up to 10,000 images, and kept if these are all. Collective.
DataStatistics FindOrComputeStatistics(const Dataset& dataset, const RunConfig& config,
                                       const CropOptions& crop, World& world, Log& log);

}  // namespace convoy
