#include "dataloader/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "core/hash.h"
#include "core/host/files.h"
#include "core/host/parallel.h"
#include "dataloader/archives/checked_file.h"
#include "dataloader/archives/index.h"
#include "dataloader/crop_options.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "dataloader/dataset.h"
#include "dataloader/loading/bad_samples.h"

namespace convoy {
namespace {

constexpr std::string_view kMagic = "CONVOYST";
constexpr uint32_t kVersion = 2;

// The number of images and of bad samples come before all sums.
constexpr size_t kImages = 0, kBad = 1;
constexpr int kFirst = 2;

// Where the sums lie in the flat fp64 tensor. All are whole numbers below 2^53 (255^2 x 256^2
// pixels x 2 million images), so that they are exact in any order of adding.
struct Places {
  explicit Places(int resize, int channels)
      : image(kFirst + channels + channels * channels),
        pixels(int64_t{resize} * resize * channels),
        channel(kFirst),
        product(kFirst + channels) {}

  size_t count() const { return static_cast<size_t>(image + pixels); }

  int64_t image, pixels;     // the sum of all images: [resize, resize, channels]
  int64_t channel, product;  // sums over pixels: of c, [channels]; of c c', [channels, channels]
};

// What one thread adds up.
struct Partial {
  int64_t images = 0;
  std::vector<uint64_t> image, channel, product;
};

void AddImage(const std::vector<uint8_t>& square, size_t channels, Partial& partial) {
  ++partial.images;
  for (size_t i = 0; i < square.size(); ++i) partial.image[i] += square[i];
  for (size_t i = 0; i < square.size(); i += channels) {
    for (size_t a = 0; a < channels; ++a) {
      const uint32_t value = square[i + a];
      partial.channel[a] += value;
      for (size_t b = 0; b < channels; ++b)
        partial.product[a * channels + b] += value * square[i + b];
    }
  }
}

Error TooManyError(int64_t found, int64_t limit, const BadSample& last) {
  if (limit > 0) return TooManyBadSamples(found, "", limit, last);
  return {ExitCode::kData,
          fmt::format("bad sample {} ({}): {}", last.name, last.location, last.reason),
          "check the data set with: convoy data verify"};
}

}  // namespace

StatisticsAccumulator::StatisticsAccumulator(Geometry geometry, int resize, int channels,
                                             int64_t bad_limit)
    : geometry_(geometry), resize_(resize), channels_(channels), bad_limit_(bad_limit) {
  if (resize < 1 || (channels != 1 && channels != 3)) {
    throw Error(ExitCode::kUsage,
                fmt::format("statistics of {0} x {0} pixels and {1} channels", resize, channels));
  }
  sums_.assign(Places(resize, channels).count(), 0);
}

void StatisticsAccumulator::Add(const Dataset& dataset, int64_t begin, int64_t end, int threads,
                                const std::function<void(int64_t)>& progress) {
  std::vector<int64_t> samples(static_cast<size_t>(end - begin));
  std::iota(samples.begin(), samples.end(), begin);
  Add(dataset, samples, threads, progress);
}

void StatisticsAccumulator::Add(const Dataset& dataset, std::span<const int64_t> samples,
                                int threads, const std::function<void(int64_t)>& progress) {
  const Places places(resize_, channels_);
  const auto channels = static_cast<size_t>(channels_);
  struct Worker {
    EncodedSample sample;
    CropRenderer renderer;
    std::vector<uint8_t> square;
    Partial partial;
  };
  std::vector<Worker> workers(static_cast<size_t>(threads));
  for (Worker& worker : workers) {
    worker.square.resize(static_cast<size_t>(places.pixels));
    worker.partial.image.assign(worker.square.size(), 0);
    worker.partial.channel.assign(channels, 0);
    worker.partial.product.assign(channels * channels, 0);
  }
  std::mutex bad_mutex;
  ParallelFor(
      0, std::ssize(samples), threads,
      [&](int thread, int64_t i) {
        const int64_t sample = samples[static_cast<size_t>(i)];
        Worker& worker = workers[static_cast<size_t>(thread)];
        try {
          dataset.ReadForSide(sample, resize_, worker.sample);
          const ImageInfo info = worker.renderer.Open(worker.sample);
          const CropPlan plan = PlanSquare(info.width, info.height, geometry_, resize_);
          worker.renderer.Render(plan, resize_, resize_, channels_, worker.square.data());
        } catch (const Error& error) {
          if (!IsOfSample(error)) throw;
          const std::lock_guard lock(bad_mutex);
          bad_.push_back(BadSampleOf(dataset, sample, error.message()));
          sums_[kBad] += 1;
          if (TooManyBad()) throw TooManyError(std::ssize(bad_), bad_limit_, bad_.back());
          return;
        }
        AddImage(worker.square, channels, worker.partial);
      },
      progress);
  SortByPosition(bad_);
  const auto add = [this](int64_t first, const std::vector<uint64_t>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      sums_[static_cast<size_t>(first) + i] += static_cast<double>(values[i]);
    }
  };
  for (const Worker& worker : workers) {
    sums_[kImages] += static_cast<double>(worker.partial.images);
    add(places.channel, worker.partial.channel);
    add(places.product, worker.partial.product);
    add(places.image, worker.partial.image);
  }
}

Tensor StatisticsAccumulator::Sums() {
  return {sums_.data(), DType::kFloat64, Shape{static_cast<int64_t>(sums_.size())}};
}

bool StatisticsAccumulator::TooManyBad() const {
  return sums_[kBad] > static_cast<double>(bad_limit_);
}

DataStatistics StatisticsAccumulator::Finish() const {
  const Places places(resize_, channels_);
  const auto images = sums_[kImages];
  const auto left_out = static_cast<int64_t>(sums_[kBad]);
  if (TooManyBad()) {
    throw TooManyError(left_out, bad_limit_, bad_.empty() ? BadSample{} : bad_.back());
  }
  if (images < 1) {
    throw Error(ExitCode::kData, "statistics of no image", "the data set is empty or unreadable");
  }
  const auto channels = static_cast<size_t>(channels_);
  const double pixels = images * resize_ * resize_;
  DataStatistics result;
  result.images = static_cast<int64_t>(images);
  result.left_out = left_out;
  result.resize = resize_;
  result.channels = channels_;
  for (size_t i = static_cast<size_t>(places.image); i < sums_.size(); ++i) {
    result.mean_image.push_back(static_cast<float>(sums_[i] / images));
  }
  const double* sum = sums_.data() + places.channel;
  const double* product = sums_.data() + places.product;
  for (size_t a = 0; a < channels; ++a) {
    for (size_t b = 0; b < channels; ++b) {
      result.colour_covariance.push_back(product[a * channels + b] / pixels -
                                         (sum[a] / pixels) * (sum[b] / pixels));
    }
    result.channel_mean.push_back(static_cast<float>(sum[a] / pixels));
    const double variance = std::max(result.colour_covariance[a * channels + a], 0.0);
    result.channel_deviation.push_back(static_cast<float>(std::sqrt(variance)));
  }
  return result;
}

std::vector<float> DataStatistics::CentralMean(int crop) const {
  CONVOY_CHECK(crop >= 1 && crop <= resize, "crop {} of {}", crop, resize);
  const int64_t offset = CentreOffset(resize - crop);
  std::vector<float> mean;
  mean.reserve(static_cast<size_t>(int64_t{crop} * crop * channels));
  for (int64_t y = 0; y < crop; ++y) {
    const auto row = mean_image.begin() + ((offset + y) * resize + offset) * channels;
    mean.insert(mean.end(), row, row + int64_t{crop} * channels);
  }
  return mean;
}

uint64_t StampOf(const Dataset& dataset) {
  constexpr int64_t kSampled = 1024;
  const std::vector<std::string> archives = dataset.Archives();
  const int64_t size = dataset.size(), count = std::min(size, kSampled);
  if (archives.empty() && (size == 0 || !dataset.FileBytes(0))) return 0;
  Hasher hasher;
  const auto add = [&hasher](const std::string& path) {
    FileStamp stamp{.name = {}, .bytes = -1, .modified_ns = 0};
    try {
      stamp = StampOf(path);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the file is bad when it is read
    }
    hasher.Add(&stamp.bytes, sizeof(stamp.bytes));
    hasher.Add(&stamp.modified_ns, sizeof(stamp.modified_ns));
  };
  for (const std::string& path : archives) add(path);
  for (int64_t k = 0; k < count && archives.empty(); ++k) add(dataset.Location(k * size / count));
  return hasher.Digest();
}

std::string StatisticsPath(const std::string& location, const std::string& index_folder,
                           const Dataset& dataset, Geometry geometry, int resize, int channels) {
  // Outside of training the two are the same.
  if (geometry == Geometry::kRandomResized) geometry = Geometry::kRectangle;
  return CompanionPath(
      location, index_folder, dataset,
      fmt::format("-{}-{}-{}.convoy-stats", static_cast<int>(geometry), resize, channels));
}

void SaveStatistics(const DataStatistics& statistics, const std::string& path) {
  CheckedWriter writer(path, kMagic, kVersion, UniquePartialSuffix());
  writer.Value(statistics.stamp);
  writer.Value(statistics.images);
  writer.Value(static_cast<int32_t>(statistics.resize));
  writer.Value(static_cast<int32_t>(statistics.channels));
  writer.Array(statistics.mean_image);
  writer.Array(statistics.channel_mean);
  writer.Array(statistics.channel_deviation);
  writer.Array(statistics.colour_covariance);
  writer.Commit();
}

bool IsStatisticsFile(const std::string& path) {
  try {
    const File file = File::OpenForReading(path, ExitCode::kData);
    std::string start(kMagic.size(), '\0');
    if (file.size() < std::ssize(start)) return false;
    file.ReadAt(0, start.data(), std::ssize(start));
    return start == kMagic;
  } catch (const Error&) {
    return false;
  }
}

DataStatistics LoadStatistics(const std::string& path) {
  CheckedReader reader(path, kMagic, kVersion);
  DataStatistics statistics;
  statistics.stamp = reader.Value<uint64_t>();
  statistics.images = reader.Value<int64_t>();
  statistics.resize = reader.Value<int32_t>();
  statistics.channels = reader.Value<int32_t>();
  statistics.mean_image = reader.Array<float>();
  statistics.channel_mean = reader.Array<float>();
  statistics.channel_deviation = reader.Array<float>();
  statistics.colour_covariance = reader.Array<double>();
  reader.CheckEnd();
  const int64_t resize = statistics.resize, channels = statistics.channels;
  if (resize < 1 || resize > (1 << 14) || (channels != 1 && channels != 3) ||
      static_cast<int64_t>(statistics.mean_image.size()) != resize * resize * channels ||
      static_cast<int64_t>(statistics.channel_mean.size()) != channels ||
      static_cast<int64_t>(statistics.channel_deviation.size()) != channels ||
      static_cast<int64_t>(statistics.colour_covariance.size()) != channels * channels) {
    throw Error(ExitCode::kData, fmt::format("{}: sizes that do not fit each other", path),
                "make it again with: convoy data stats");
  }
  return statistics;
}

std::optional<DataStatistics> LoadStatisticsOf(const Dataset& dataset, const std::string& path,
                                               Log& log) {
  if (!PathExists(path)) return std::nullopt;
  try {
    DataStatistics statistics = LoadStatistics(path);
    if (statistics.stamp == StampOf(dataset)) return statistics;
    log.Info("the statistics in {} are not used: images have changed since", path);
  } catch (const Error& error) {
    log.Warning("the statistics in {} are not used: {}", path, error.message());
  }
  return std::nullopt;
}

}  // namespace convoy
