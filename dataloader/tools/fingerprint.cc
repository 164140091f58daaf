#include "dataloader/fingerprint.h"

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "core/hash.h"
#include "dataloader/archives/names.h"
#include "dataloader/tools/pack_sample.h"

namespace convoy {
namespace {

// The number of files whose sizes are looked at. That takes a second or so on a cold disk.
constexpr int64_t kSampled = 1000;

void ForSampledImages(const Dataset& dataset, const std::function<void(int64_t)>& look) {
  const int64_t count = std::min(dataset.size(), kSampled);
  for (int64_t k = 0; k < count; ++k) look(EvenlySpaced(k, count, dataset.size()));
}

// Returns the size of a file, or a hash of pixels that are in memory.
uint64_t ContentOf(const Dataset& dataset, int64_t sample) {
  if (const std::optional<int64_t> bytes = dataset.FileBytes(sample)) {
    return static_cast<uint64_t>(*bytes);
  }
  constexpr int kSideOfNoise = 8;
  EncodedSample pixels;
  dataset.ReadForSide(sample, kSideOfNoise, pixels);
  Hasher hasher;
  hasher.Add(pixels.bytes.data(), pixels.bytes.size());
  return hasher.Digest();
}

}  // namespace

Fingerprint FingerprintOf(const Dataset& dataset) {
  Hasher names, contents;
  const auto add_name = [&](int64_t sample) {
    const std::string name = dataset.Name(sample) + "\n";
    names.Add(name.data(), name.size());
    const int32_t label = dataset.Label(sample);
    names.Add(&label, sizeof(label));
  };
  // Noise is the same everywhere, and there may be too much of it to hash every name.
  const bool is_noise = dataset.Archives().empty() && dataset.size() > 0 && !dataset.FileBytes(0);
  if (is_noise) {
    ForSampledImages(dataset, add_name);
  } else {
    for (int64_t sample = 0; sample < dataset.size(); ++sample) add_name(sample);
  }
  ForSampledImages(dataset, [&](int64_t sample) {
    const uint64_t content = ContentOf(dataset, sample);
    contents.Add(&content, sizeof(content));
  });
  return {.images = dataset.size(), .names = names.Digest(), .contents = contents.Digest()};
}

std::string DescribeSampledImages(const Dataset& dataset) {
  std::string text;
  ForSampledImages(dataset, [&](int64_t sample) {
    const std::optional<int64_t> bytes = dataset.FileBytes(sample);
    text += fmt::format("{} {}\n", dataset.Name(sample),
                        bytes ? fmt::format("of {} bytes", *bytes)
                              : fmt::format("with pixels {:016x}", ContentOf(dataset, sample)));
  });
  return text;
}

std::optional<int64_t> PublishedBytes(const std::string& path) {
  // The sizes that torchvision and TensorFlow Datasets check.
  if (BaseOf(path) == "ILSVRC2012_img_train.tar") return 147'897'477'120;
  if (BaseOf(path) == "ILSVRC2012_img_val.tar") return 6'744'924'160;
  return std::nullopt;
}

}  // namespace convoy
