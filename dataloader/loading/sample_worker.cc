#include "dataloader/loading/sample_worker.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/host/clock.h"
#include "dataloader/crops/colour.h"
#include "dataloader/loading/bad_samples.h"
#include "dataloader/loading/permutation.h"

namespace convoy {
namespace {

// If more samples than this are bad one after another at one position, the data set is given up.
constexpr int kMostSubstitutes = 8;

int64_t CropBytes(const CropOptions& crop) {
  return int64_t{crop.crop} * crop.crop * crop.channels;
}

}  // namespace

void SampleWorker::Clear() {
  statistics_ = {};
  bad_.clear();
}

int64_t SampleWorker::SampleAt(const CropKey& key) const {
  if (options_.order == Order::kSequential) return key.position;
  return PermutedSample(key.seed, key.epoch, dataset_.size(), key.position);
}

void SampleWorker::Announce(const CropKey& key) const { dataset_.WillRead(SampleAt(key)); }

CropPlan SampleWorker::Render(int64_t sample, const CropKey& key, uint8_t* pixels) {
  const Clock::time_point start = Clock::now();
  const CropOptions& crop = options_.crop;
  dataset_.ReadForSide(sample, crop.resize, sample_);
  statistics_.read_s += SecondsSince(start);
  statistics_.bytes_read += static_cast<int64_t>(sample_.bytes.size());
  const ImageInfo info = renderer_.Open(sample_);
  CropPlan plan = PlanCrops(info.width, info.height, crop, key);
  if (crop.dct_scaling && info.format == ImageFormat::kJpeg) ScaleInDct(plan);
  renderer_.Render(plan, crop.crop, crop.crop, crop.channels, pixels);
  statistics_.decode_s += renderer_.decode_s();
  statistics_.resize_s += renderer_.resize_s();
  if (crop.random && crop.jitter.any()) {
    const Clock::time_point jitter_start = Clock::now();
    ApplyJitter(DrawJitter(crop.jitter, key), int64_t{crop.crop} * crop.crop, crop.channels,
                pixels);
    statistics_.augment_s += SecondsSince(jitter_start);
  }
  return plan;
}

// Returns another sample than those that were tried at this position, of which `last` was the last.
int64_t SampleWorker::NextSubstitute(const CropKey& key, const std::vector<int64_t>& tried,
                                     const BadSample& last) const {
  const auto fail = [&last](const std::string& what) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}, the last {} ({}): {}", what, last.name, last.location, last.reason),
        "check the data set with: convoy data verify");
  };
  const int64_t size = dataset_.size();
  if (std::ssize(tried) == size) {
    fail(fmt::format("no image of {} can be decoded", dataset_.Describe()));
  }
  if (std::ssize(tried) > kMostSubstitutes) {
    fail(fmt::format("{} samples in a row are bad", tried.size()));
  }
  // This ends, because every draw may give each sample of the set.
  for (int draw = 0; true; ++draw) {
    const int64_t sample = SubstituteSample(key.seed, key.epoch, size, key.position, draw);
    if (std::find(tried.begin(), tried.end(), sample) == tried.end()) return sample;
  }
}

void SampleWorker::Fill(const CropKey& key, double colour_strength, uint8_t* pixels,
                        SampleInfo* rows) {
  const Clock::time_point start = Clock::now();
  const CropOptions& crop = options_.crop;
  int64_t sample = SampleAt(key);
  SampleInfo info;
  info.position = key.position;
  info.weight = 1;
  CropPlan plan;
  std::vector<int64_t> tried;  // bad ones, at this position
  while (true) {
    try {
      plan = Render(sample, key, pixels);
      break;
    } catch (const Error& error) {
      if (!IsOfSample(error)) throw;
      BadSample bad = BadSampleOf(dataset_, sample, error.message());
      bad.epoch = key.epoch;
      bad.position = key.position;
      if (options_.bad_samples == BadSamplePolicy::kFail) {
        throw Error(ExitCode::kData,
                    fmt::format("bad sample {} ({}): {}", bad.name, bad.location, bad.reason),
                    "remove or repair it, or let bad samples be replaced");
      }
      bad_.push_back(bad);
      if (options_.bad_samples == BadSamplePolicy::kDrop) {
        std::memset(pixels, 0, static_cast<size_t>(crop.views * CropBytes(crop)));
        info.weight = 0;
        plan.views = crop.views;
        break;
      }
      tried.push_back(sample);
      sample = NextSubstitute(key, tried, bad);
      bad_.back().replaced_by = dataset_.Name(sample);
    }
  }
  ++statistics_.images;
  info.sample = sample;
  info.label = dataset_.Label(sample);
  if (crop.random) {
    const std::array<float, 3> shift = DrawColourShift(crop.colour, colour_strength, key);
    std::copy(shift.begin(), shift.end(), info.colour_shift);
  }
  for (int view = 0; view < plan.views; ++view) {
    info.mirror = plan.places[static_cast<size_t>(view)].mirror ? 1 : 0;
    rows[view] = info;
  }
  statistics_.work_s += SecondsSince(start);
}

}  // namespace convoy
