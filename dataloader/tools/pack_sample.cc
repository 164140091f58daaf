#include "dataloader/tools/pack_sample.h"

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "core/host/parallel.h"
#include "dataloader/archives/names.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/sources/shards.h"

namespace convoy {
namespace {

constexpr int kMostQuality = 100;
// An image of 1 x 2000 scaled to a short side of 256 would be 256 x 512000.
constexpr int64_t kMostScaledPixels = kMostPixels;

uint64_t HashOfStem(const Dataset& dataset, int64_t sample, const std::string& stem) {
  return Hash64(fmt::format("{}/{}", dataset.Label(sample), stem));
}

}  // namespace

int64_t EvenlySpaced(int64_t i, int64_t count, int64_t size) {
  return static_cast<int64_t>(static_cast<__int128>(i) * size / count);
}

std::string NameInClass(const Dataset& dataset, int64_t sample) {
  const std::string name = dataset.Name(sample);
  std::string own = name.substr(name.find('/') + 1);
  std::replace(own.begin(), own.end(), '/', '_');
  return own;
}

ShardStems::ShardStems(const Dataset& dataset) : dataset_(dataset) {
  std::vector<uint64_t> hashes;
  hashes.reserve(static_cast<size_t>(dataset.size()));
  for (int64_t i = 0; i < dataset.size(); ++i) {
    hashes.push_back(HashOfStem(dataset, i, ShardStem(NameInClass(dataset, i))));
  }
  std::sort(hashes.begin(), hashes.end());
  for (size_t i = 1; i < hashes.size(); ++i) {
    if (hashes[i] == hashes[i - 1]) shared_.insert(hashes[i]);
  }
}

std::string ShardStems::Of(int64_t sample) const {
  const std::string name = NameInClass(dataset_, sample);
  const std::string stem = ShardStem(name);
  return shared_.contains(HashOfStem(dataset_, sample, stem)) ? ShardStemWithExtension(name) : stem;
}

void CheckPackOptions(const Dataset& dataset, const PackOptions& options) {
  if (dataset.classes().empty()) {
    throw Error(ExitCode::kUsage, fmt::format("{} has no classes to pack by", dataset.Describe()));
  }
  if (options.count < 1 || options.count > dataset.size() || options.short_side < 0 ||
      options.short_side > kLongestSide || options.quality < 1 || options.quality > kMostQuality ||
      options.threads < 1) {
    throw Error(ExitCode::kUsage,
                fmt::format("packing {} of {} images at short side {} and quality {} on {} threads",
                            options.count, dataset.size(), options.short_side, options.quality,
                            options.threads),
                "counts are at least 1, the quality at most 100");
  }
}

PackedSample SamplePacker::Copy(const Dataset& dataset, int64_t sample) {
  dataset.Read(sample, sample_);
  if (sample_.height > 0) {
    throw Error(ExitCode::kData, "it holds plain pixels, which cannot be copied as a file");
  }
  return {.bytes = sample_.bytes};
}

PackedSample SamplePacker::Pack(const Dataset& dataset, int64_t sample,
                                const PackOptions& options) {
  PackedSample packed;
  dataset.Read(sample, sample_);
  const ImageInfo info = renderer_.Open(sample_);
  const int short_side = std::min(info.width, info.height);
  const int wanted = options.short_side == 0 ? short_side : options.short_side;
  if (info.format != ImageFormat::kPlain && wanted == short_side) {
    const bool transcode = options.lossless && info.format == ImageFormat::kJpeg &&
                           writer_.Transcode(sample_.bytes, transcoded_.bytes) &&
                           transcoded_.bytes.size() < sample_.bytes.size() &&
                           PixelsAreEqual(sample_, transcoded_);
    packed.bytes = transcode ? transcoded_.bytes : sample_.bytes;
    return packed;
  }
  const CropPlan plan = PlanWhole(info.width, info.height, wanted);
  if (plan.resized_width * plan.resized_height > kMostScaledPixels) {
    throw Error(ExitCode::kData,
                fmt::format("{} x {} pixels when scaled, at most {} expected", plan.resized_width,
                            plan.resized_height, kMostScaledPixels));
  }
  const auto width = static_cast<int>(plan.resized_width);
  const auto height = static_cast<int>(plan.resized_height);
  const int channels = info.is_grey() ? 1 : 3;
  pixels_.resize(static_cast<size_t>(int64_t{width} * height * channels));
  renderer_.Render(plan, width, height, channels, pixels_.data());
  writer_.Write(pixels_.data(), width, height, channels, options.quality, packed.bytes);
  const std::string extension = ExtensionOf(NameInClass(dataset, sample));
  packed.needs_extension = extension != "jpeg" && extension != "jpg";
  return packed;
}

bool SamplePacker::PixelsAreEqual(const EncodedSample& a, const EncodedSample& b) {
  std::vector<uint8_t> rows[2];
  RowDecoder* const images[] = {&decoders_[0].Open(a), &decoders_[1].Open(b)};
  const int width = images[0]->info().width, height = images[0]->info().height;
  if (images[1]->info().width != width || images[1]->info().height != height) return false;
  for (size_t i = 0; i < 2; ++i) {
    images[i]->Start({0, 0, width, height}, 3);
    rows[i].resize(static_cast<size_t>(images[i]->columns() * images[i]->pixel_bytes()));
  }
  for (int y = 0; y < height; ++y) {
    for (size_t i = 0; i < 2; ++i) {
      uint8_t* row = rows[i].data();
      images[i]->ReadRows(&row, 1);
    }
    if (rows[0] != rows[1]) return false;
  }
  return true;
}

PackingPool::PackingPool(int threads) : packers_(static_cast<size_t>(threads)) {}

void PackingPool::Run(int64_t count,
                      const std::function<PackedSample(SamplePacker&, int64_t)>& pack,
                      const std::function<void(int64_t, const PackedSample&)>& take) {
  constexpr int64_t kImagesPerThread = 32;
  const auto threads = static_cast<int>(packers_.size());
  std::vector<PackedSample> stretch(static_cast<size_t>(kImagesPerThread * threads));
  for (int64_t first = 0; first < count; first += std::ssize(stretch)) {
    const int64_t here = std::min<int64_t>(std::ssize(stretch), count - first);
    ParallelFor(0, here, threads,
                [&](int thread, int64_t i) {
                  stretch[static_cast<size_t>(i)] =
                      pack(packers_[static_cast<size_t>(thread)], first + i);
                },
                {});
    for (int64_t i = 0; i < here; ++i) take(first + i, stretch[static_cast<size_t>(i)]);
  }
}

}  // namespace convoy
