#include "dataloader/sample_worker.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "dataloader/colour.h"
#include "dataloader/permutation.h"

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;

// Bad samples in a row at one position before the data set is given up.
constexpr int kMostSubstitutes = 8;

}  // namespace

SampleWorker::SampleWorker(const Dataset& dataset, const LoaderOptions& options)
    : dataset_(dataset), options_(options) {
  sample_.side_of_synthetic = options.crop.resize;
}

void SampleWorker::Clear() {
  statistics_ = {};
  bad_.clear();
}

CropPlan SampleWorker::Render(int64_t sample, const CropKey& key, uint8_t* pixels) {
  const Clock::time_point start = Clock::now();
  dataset_.Read(sample, sample_);
  statistics_.read_s += std::chrono::duration<double>(Clock::now() - start).count();
  statistics_.bytes_read += static_cast<int64_t>(sample_.bytes.size());
  const ImageInfo info = renderer_.Open(sample_);
  const CropOptions& crop = options_.crop;
  const CropPlan plan = PlanCrops(info.width, info.height, crop, key);
  renderer_.Render(plan, crop.crop, crop.crop, crop.channels, pixels);
  statistics_.decode_s += renderer_.decode_s();
  statistics_.resize_s += renderer_.resize_s();
  return plan;
}

void SampleWorker::Fill(const CropKey& key, double colour_strength, uint8_t* pixels,
                        SampleInfo* rows) {
  const CropOptions& crop = options_.crop;
  int64_t sample = key.position;
  if (options_.order == Order::kShuffled) {
    sample = PermutedSample(key.seed, key.epoch, dataset_.size(), key.position);
  }
  SampleInfo info;
  info.position = key.position;
  info.weight = 1;
  CropPlan plan;
  for (int attempt = 0; true; ++attempt) {
    try {
      plan = Render(sample, key, pixels);
      break;
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kData && error.exit_code() != ExitCode::kDisk) throw;
      const BadSample bad{.name = dataset_.Name(sample),
                          .location = dataset_.Location(sample),
                          .reason = error.message(),
                          .epoch = key.epoch,
                          .position = key.position};
      if (options_.bad_samples == BadSamplePolicy::kFail) {
        throw Error(ExitCode::kData,
                    fmt::format("bad sample {} ({}): {}", bad.name, bad.location, bad.reason),
                    "remove or repair it, or let bad samples be replaced");
      }
      bad_.push_back(bad);
      if (options_.bad_samples == BadSamplePolicy::kDrop) {
        const int64_t bytes = int64_t{crop.views} * crop.crop * crop.crop * crop.channels;
        std::memset(pixels, 0, static_cast<size_t>(bytes));
        info.weight = 0;
        plan.views = crop.views;
        break;
      }
      if (attempt == kMostSubstitutes) {
        throw Error(ExitCode::kData,
                    fmt::format("{} samples in a row are bad, the last {} ({}): {}", attempt + 1,
                                bad.name, bad.location, bad.reason),
                    "check the data set with: convoy data verify");
      }
      sample = SubstituteSample(key.seed, key.epoch, dataset_.size(), key.position, attempt);
    }
  }
  ++statistics_.images;
  info.sample = sample;
  info.label = dataset_.Label(sample);
  if (crop.random) {
    const std::array<float, 3> shift =
        DrawColourShift(crop.colour, colour_strength, key.seed, key.epoch, key.position);
    std::copy(shift.begin(), shift.end(), info.colour_shift);
  }
  for (int view = 0; view < plan.views; ++view) {
    info.mirror = plan.places[static_cast<size_t>(view)].mirror ? 1 : 0;
    rows[view] = info;
  }
}

}  // namespace convoy
