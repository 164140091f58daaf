// Does the loader's memory grow? Runs it over a data set for many epochs and fits a line through
// the resident memory after each:
//
//   build/release/bench/loader_memory --data photos.tar [--epochs 50] [--threads 2]
//
// Prints KiB per epoch, and the spread around the line as the limit below which a slope means
// nothing. Checks that every epoch delivers the same images.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy {
namespace {

struct Options {
  std::string data;
  int64_t epochs = 50;
  int threads = 2;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--data") options.data = value;
    if (name == "--epochs") options.epochs = std::atoll(value.c_str());
    if (name == "--threads") options.threads = std::atoi(value.c_str());
  }
  return options;
}

double ResidentKib() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024;
}

// Returns the slope of a line through y over 0, 1, 2, ..., and the deviation of the residuals.
std::pair<double, double> Fit(const std::vector<double>& y) {
  const auto n = static_cast<double>(y.size());
  double sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const auto x = static_cast<double>(i);
    sum_x += x;
    sum_y += y[i];
    sum_xx += x * x;
    sum_xy += x * y[i];
  }
  const double slope = (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x);
  const double start = (sum_y - slope * sum_x) / n;
  double squares = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double rest = y[i] - start - slope * static_cast<double>(i);
    squares += rest * rest;
  }
  return {slope, std::sqrt(squares / n)};
}

int Run(const Options& options) {
  Log log;
  const auto dataset = OpenDataset(options.data, {}, log);
  LoaderOptions loading;
  loading.threads = options.threads;
  loading.global_batch = 32;
  loading.crop.colour = ColourNoise::k2012;
  loading.crop.colour_strength = [](int64_t) { return 0.1; };
  const auto loader = Loader::Make(dataset, loading, log);
  std::vector<double> resident;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    std::set<int64_t> samples;
    for (int64_t b = 0; b < loader->batches_per_epoch(); ++b) {
      std::unique_ptr<Batch> batch = loader->Next();
      for (const SampleInfo& sample : batch->samples) {
        if (sample.position >= 0) samples.insert(sample.sample);
      }
      loader->Recycle(std::move(batch));
    }
    if (static_cast<int64_t>(samples.size()) != dataset->size()) {
      fmt::print("epoch {} delivered {} of {} images\n", epoch, samples.size(), dataset->size());
      return 1;
    }
    resident.push_back(ResidentKib());
  }
  // Buffers reach their full size in the first epochs, when every thread has met its largest image.
  const size_t warm = std::min<size_t>(5, resident.size() / 2);
  const auto [slope, deviation] =
      Fit({resident.begin() + static_cast<std::ptrdiff_t>(warm), resident.end()});
  fmt::print("{}\n{} epochs on {} threads: {:.0f} KiB after epoch {}, {:.0f} KiB after the last\n",
             dataset->Describe(), options.epochs, options.threads, resident[warm], warm + 1,
             resident.back());
  fmt::print("slope {:+.2f} KiB an epoch; deviation around the line {:.2f} KiB\n", slope,
             deviation);
  return 0;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  const convoy::Options options = convoy::Parse(argc, argv);
  if (options.data.empty() || options.epochs < 10 || options.threads < 1) {
    fmt::print(stderr, "loader_memory --data DATA [--epochs N, at least 10] [--threads N]\n");
    return 2;
  }
  try {
    return convoy::Run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "loader_memory: {}\n", error.what());
    return 3;
  }
}
