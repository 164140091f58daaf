#include "trainer/data_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/text.h"
#include "trainer/ranks/agreement.h"
#include "trainer/run/run_setup.h"

namespace convoy {
namespace {

constexpr int64_t kStatisticsSample = 10000;

int64_t BadLimitOf(const StatisticsRequest& request) {
  if (request.loading.bad_samples == BadSamplePolicy::kFail) return 0;
  return BadSampleLimit(request.loading.bad_sample_limit, request.count);
}

// Rank 0's statistics, on every rank.
void Broadcast(World& world, DataStatistics& statistics) {
  HostStream stream;
  const auto broadcast = [&](void* data, DType dtype, int64_t count) {
    world.all().Broadcast(stream, {data, dtype, Shape{count}}, 0, "mean").Wait(stream);
  };
  int64_t sizes[] = {statistics.images, statistics.resize, statistics.channels};
  broadcast(sizes, DType::kInt64, std::ssize(sizes));
  statistics.images = sizes[0];
  statistics.resize = static_cast<int>(sizes[1]);
  statistics.channels = static_cast<int>(sizes[2]);
  const auto channels = static_cast<size_t>(statistics.channels);
  statistics.mean_image.resize(static_cast<size_t>(sizes[1] * sizes[1]) * channels);
  statistics.channel_mean.resize(channels);
  statistics.channel_deviation.resize(channels);
  statistics.colour_covariance.resize(channels * channels);
  broadcast(statistics.mean_image.data(), DType::kFloat32, std::ssize(statistics.mean_image));
  broadcast(statistics.channel_mean.data(), DType::kFloat32, sizes[2]);
  broadcast(statistics.channel_deviation.data(), DType::kFloat32, sizes[2]);
  broadcast(statistics.colour_covariance.data(), DType::kFloat64, sizes[2] * sizes[2]);
}

// If this fails, the next run works them out again.
void Keep(const DataStatistics& statistics, const std::string& path, Log& log) {
  try {
    SaveStatistics(statistics, path);
    log.Info("the mean is kept in {}", path);
  } catch (const Error& error) {
    log.Info("the mean is not kept beside the data: {}", error.message());
  }
}

}  // namespace

DataStatistics ComputeStatistics(const Dataset& dataset, const StatisticsRequest& request,
                                 World& world, Log& log,
                                 const std::function<void(int64_t)>& progress) {
  uint64_t stamp = 0;
  StatisticsAccumulator accumulator(request.geometry, request.resize, request.channels,
                                    BadLimitOf(request));
  RunTogetherWithoutDeadline(world, "working out the mean", [&] {
    if (world.rank() == 0) stamp = StampOf(dataset);  // as the images are before they are read
    std::vector<int64_t> samples;
    const int64_t end = request.FirstOf(world.rank() + 1, world.size());
    for (int64_t i = request.FirstOf(world.rank(), world.size()); i < end; ++i) {
      samples.push_back(i * dataset.size() / request.count);
    }
    accumulator.Add(dataset, samples, request.loading.workers, progress);
  });
  for (const BadSample& bad : accumulator.bad()) {
    log.Warning("the mean leaves out {} ({}): {}", bad.name, bad.location, bad.reason);
  }
  HostStream stream;
  world.all()
      .AllReduce(stream, accumulator.Sums(), ReduceOp::kSum, "statistics of the data")
      .Wait(stream);
  DataStatistics statistics;
  RunTogether(world, [&] {
    // If they are too many, a rank that can name one speaks.
    if (accumulator.TooManyBad() && accumulator.bad().empty()) return;
    statistics = accumulator.Finish();
  });
  statistics.stamp = stamp;
  return statistics;
}

DataStatistics FindOrComputeStatistics(const Dataset& dataset, const RunConfig& config,
                                       const CropOptions& crop, World& world, Log& log) {
  // Rank 0 decides: hosts may differ in what is kept beside their data.
  std::string path;
  std::optional<DataStatistics> kept;
  RunTogether(world, [&] {
    if (world.rank() != 0) return;
    path = StatisticsPath(config.data, config.loading.index_folder, dataset, crop.geometry,
                          crop.resize, crop.channels);
    kept = LoadStatisticsOf(dataset, path, log);
  });
  int32_t is_kept = kept ? 1 : 0;
  HostStream stream;
  world.all().Broadcast(stream, {&is_kept, DType::kInt32, Shape{1}}, 0, "mean").Wait(stream);
  if (is_kept != 0) {
    DataStatistics statistics = kept.value_or(DataStatistics{});
    Broadcast(world, statistics);
    return statistics;
  }
  const int64_t count = std::min(dataset.size(), kStatisticsSample);
  if (count == dataset.size()) {
    log.Info("working out the mean of all {} training images", FormatCount(count));
  } else {
    // "convoy data stats" knows of no --val-split.
    const std::string hint =
        config.val_split > 0
            ? std::string()
            : fmt::format(
                  "; convoy data stats {} --geometry {} --resize {} --channels {} does it "
                  "for all, once",
                  config.data, NameOf(crop.geometry), crop.resize, crop.channels);
    log.Info("working out the mean of {} of {} training images{}", FormatCount(count),
             FormatCount(dataset.size()), hint);
  }
  const DataStatistics statistics = ComputeStatistics(dataset,
                                                      {.geometry = crop.geometry,
                                                       .resize = crop.resize,
                                                       .channels = crop.channels,
                                                       .count = count,
                                                       .loading = config.loading},
                                                      world, log);
  if (world.rank() == 0 && count == dataset.size() && !path.empty() && statistics.stamp != 0) {
    Keep(statistics, path, log);
  }
  return statistics;
}

}  // namespace convoy
