#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/host/parallel.h"
#include "core/text.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/images/image.h"
#include "dataloader/loading/bad_samples.h"
#include "dataloader/sources/shards.h"
#include "dataloader/tools/pack_sample.h"

namespace convoy {
namespace {

// A whole image.
struct Picture {
  ImageInfo info;
  std::vector<uint8_t> pixels;  // [height, width, 1 or 4]
  int pixel_bytes = 1;

  std::array<double, 3> MeanColour() const {
    std::array<double, 3> sums{};
    const size_t count = pixels.size() / static_cast<size_t>(pixel_bytes);
    for (size_t i = 0; i < count; ++i) {
      for (size_t c = 0; c < 3; ++c) {
        sums[c] += pixel_bytes == 1 ? pixels[i] : pixels[4 * i + c];
      }
    }
    for (double& sum : sums) sum /= static_cast<double>(count);
    return sums;
  }
};

struct Worker {
  EncodedSample samples[2];
  ImageDecoder decoder;
  Picture pictures[2];
  ComparisonReport report;
};

void Decode(ImageDecoder& decoder, const EncodedSample& sample, Picture& picture) {
  RowDecoder& image = decoder.Open(sample);
  picture.info = image.info();
  image.Start({0, 0, picture.info.width, picture.info.height}, 3);
  picture.pixel_bytes = image.pixel_bytes();
  const auto row_bytes =
      static_cast<size_t>(image.columns()) * static_cast<size_t>(picture.pixel_bytes);
  picture.pixels.resize(row_bytes * static_cast<size_t>(picture.info.height));
  for (int y = 0; y < picture.info.height; ++y) {
    uint8_t* row = picture.pixels.data() + row_bytes * static_cast<size_t>(y);
    image.ReadRows(&row, 1);
    // The fourth byte of a pixel means nothing.
    for (size_t i = 3; picture.pixel_bytes == 4 && i < row_bytes; i += 4) row[i] = 0;
  }
}

std::string KeyOf(const Dataset& dataset, const ShardStems& stems, int64_t sample) {
  return fmt::format("{}/{}", dataset.Label(sample), stems.Of(sample));
}

// Finds the sample of a data set that has a class and a name.
class SampleNames {
 public:
  explicit SampleNames(const Dataset& dataset) {
    const ShardStems stems(dataset);
    for (int64_t i = 0; i < dataset.size(); ++i) {
      samples_.emplace_back(KeyOf(dataset, stems, i), i);
    }
    std::sort(samples_.begin(), samples_.end());
  }

  // Returns -1 if there is none.
  int64_t Find(const std::string& key) const {
    const auto found =
        std::lower_bound(samples_.begin(), samples_.end(), std::pair(key, int64_t{-1}));
    return found != samples_.end() && found->first == key ? found->second : -1;
  }

 private:
  std::vector<std::pair<std::string, int64_t>> samples_;
};

// Says what is wrong with the packed sample, which was made from the sample `original` of `source`;
// empty if nothing is.
std::string Difference(const Dataset& packed, int64_t sample, const Dataset& source,
                       int64_t original, double tolerance, Worker& worker) {
  if (original < 0) return "its source has no image of that name in that class";
  packed.Read(sample, worker.samples[0]);
  source.Read(original, worker.samples[1]);
  if (worker.samples[0].bytes == worker.samples[1].bytes) {
    ++worker.report.same_bytes;
    return {};
  }
  for (size_t i = 0; i < 2; ++i) {
    Decode(worker.decoder, worker.samples[i], worker.pictures[i]);
  }
  const auto& [a, b] = worker.pictures;
  if (a.info.width == b.info.width && a.info.height == b.info.height &&
      a.pixel_bytes == b.pixel_bytes && a.pixels == b.pixels) {
    ++worker.report.same_pixels;
    return {};
  }
  const CropPlan plan =
      PlanWhole(b.info.width, b.info.height, std::min(a.info.width, a.info.height));
  if (a.info.width != plan.resized_width || a.info.height != plan.resized_height) {
    return fmt::format("{} x {} pixels, of its source {} x {}", a.info.width, a.info.height,
                       b.info.width, b.info.height);
  }
  const std::array<double, 3> means[] = {a.MeanColour(), b.MeanColour()};
  double largest = 0;
  for (size_t c = 0; c < 3; ++c) largest = std::max(largest, std::abs(means[0][c] - means[1][c]));
  if (largest > tolerance) {
    return fmt::format("its mean colour is {:.2f} levels from that of its source", largest);
  }
  ++worker.report.scaled;
  worker.report.largest_mean_difference = std::max(worker.report.largest_mean_difference, largest);
  return {};
}

}  // namespace

ComparisonReport CompareDatasets(const Dataset& packed, const Dataset& source, double tolerance,
                                 int threads, const JobProgressCall& progress) {
  if (packed.size() != source.size()) {
    throw Error(ExitCode::kData,
                fmt::format("{} images, in the source {}", FormatCount(packed.size()),
                            FormatCount(source.size())),
                "give the data set that was packed, whole");
  }
  const SampleNames names(source);
  const ShardStems stems(packed);
  std::vector<Worker> workers(static_cast<size_t>(threads));
  ParallelFor(
      0, packed.size(), threads,
      [&](int thread, int64_t sample) {
        Worker& worker = workers[static_cast<size_t>(thread)];
        std::string difference;
        try {
          const int64_t original = names.Find(KeyOf(packed, stems, sample));
          difference = Difference(packed, sample, source, original, tolerance, worker);
        } catch (const Error& error) {
          if (!IsOfSample(error)) throw;
          difference = error.message();
        }
        if (difference.empty()) return;
        worker.report.different.push_back(BadSampleOf(packed, sample, difference));
      },
      progress);
  ComparisonReport total;
  for (const Worker& worker : workers) {
    const ComparisonReport& part = worker.report;
    total.same_bytes += part.same_bytes;
    total.same_pixels += part.same_pixels;
    total.scaled += part.scaled;
    total.largest_mean_difference =
        std::max(total.largest_mean_difference, part.largest_mean_difference);
    total.different.insert(total.different.end(), part.different.begin(), part.different.end());
  }
  SortByPosition(total.different);
  return total;
}

}  // namespace convoy
