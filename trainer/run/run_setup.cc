#include "trainer/run/run_setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "dataloader/statistics.h"
#include "trainer/data_statistics.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/same_copies.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

// One value stands for all channels.
std::vector<float> PerChannel(const std::vector<float>& values, size_t channels,
                              const char* option) {
  if (values.size() == 1) return std::vector<float>(channels, values[0]);
  if (!values.empty() && values.size() != channels) {
    throw Error(ExitCode::kUsage,
                fmt::format("{} takes 1 number or {}, found {}", option, channels, values.size()));
  }
  return values;
}

// A crop of 224 from 256, in proportion; small images are not enlarged first.
int ResizeFor(int crop) { return crop < 64 ? crop : (crop * 8 + 3) / 7; }

}  // namespace

const char* NameOf(Geometry geometry) {
  switch (geometry) {
    case Geometry::kSquare2012:
      return "square2012";
    case Geometry::kRectangle:
      return "rectangle";
    case Geometry::kSquash:
      return "squash";
    case Geometry::kRandomResized:
      return "random-resized";
  }
  return "?";
}

Geometry GeometryOf(const std::string& name) {
  for (const Geometry geometry : kGeometries) {
    if (name == NameOf(geometry)) return geometry;
  }
  throw Error(
      ExitCode::kUsage,
      fmt::format("geometry {}: expected square2012, rectangle, squash or random-resized", name));
}

std::shared_ptr<const Dataset> OpenTogether(const std::string& location, const DataConfig& config,
                                            World& world, Log& log, EmptyClasses empty_classes) {
  std::shared_ptr<const Dataset> dataset;
  const DatasetOptions options{
      .devkit = config.devkit, .index_folder = config.index_folder, .empty_classes = empty_classes};
  // The first rank of every host makes the index that the others then find.
  for (const bool first : {true, false}) {
    const bool opens = (world.local_rank() == 0) == first;
    RunTogetherWithoutDeadline(world, opens ? "opening " + location : "", [&] {
      if (opens) dataset = OpenDataset(location, options, log);
    });
  }
  // Hosts may have copies of their own.
  const std::set<std::string> hosts(world.hosts().begin(), world.hosts().end());
  if (hosts.size() > 1) RequireSameCopies(*dataset, location, world.local_rank() == 0, world);
  return dataset;
}

void RequireClasses(const Dataset& dataset, const std::string& location, int classes) {
  const auto found = static_cast<int>(dataset.classes().size());
  if (found == 0) {
    throw Error(ExitCode::kData, fmt::format("{} has no labels", location),
                "expected a data set with one folder, archive or label file per class");
  }
  if (found > classes) {
    throw Error(ExitCode::kUsage,
                fmt::format("{} has {} classes, the model {}", location, found, classes),
                fmt::format("give --classes {}", found));
  }
}

void RequireMicroBatches(int64_t global_batch, int micro_batches) {
  if (micro_batches <= global_batch) return;
  throw Error(ExitCode::kUsage,
              fmt::format("--accumulate {}: a batch of {} images in {} micro-batches",
                          micro_batches, global_batch, micro_batches),
              "a micro-batch has at least one image: give a smaller --accumulate");
}

LoaderOptions LoaderOptionsOf(const DataConfig& config, const NetworkSpec& network,
                              int64_t global_batch) {
  const auto crop = static_cast<int>(network.input[0]);
  LoaderOptions options;
  options.global_batch = global_batch;
  options.threads = config.workers;
  options.queue = config.queue;
  options.bad_samples = config.bad_samples;
  options.bad_sample_limit = config.bad_sample_limit;
  options.read_ahead_bytes = config.read_ahead_bytes;
  options.crop.geometry = config.geometry;
  options.crop.dct_scaling = config.dct_scaling;
  options.crop.images_per_draw = config.images_per_draw;
  options.crop.jitter = config.jitter;
  options.crop.resize = config.resize > 0 ? config.resize : ResizeFor(crop);
  options.crop.crop = crop;
  options.crop.channels = static_cast<int>(network.input[2]);
  if (options.crop.resize < crop) {
    throw Error(ExitCode::kUsage,
                fmt::format("--resize {}: smaller than the crop of {}", options.crop.resize, crop));
  }
  return options;
}

Preprocessing PreprocessingOf(const RunConfig& config, const NetworkSpec& network,
                              const Dataset& dataset, World& world, Log& log) {
  const auto channels = static_cast<size_t>(network.input[2]);
  Preprocessing preprocessing;
  preprocessing.standard_deviation = PerChannel(config.standard_deviation, channels, "--std");
  if (config.mean == MeanKind::kValues) {
    preprocessing.mean = PerChannel(config.mean_values, channels, "--mean");
  }
  if (config.mean == MeanKind::kImage || config.mean == MeanKind::kChannel) {
    const CropOptions crop = LoaderOptionsOf(config.loading, network, config.batch_size).crop;
    const DataStatistics statistics = FindOrComputeStatistics(dataset, config, crop, world, log);
    preprocessing.mean = config.mean == MeanKind::kImage ? statistics.CentralMean(crop.crop)
                                                         : statistics.channel_mean;
  }
  return preprocessing;
}

}  // namespace convoy
