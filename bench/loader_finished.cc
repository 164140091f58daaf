// What does finishing cost the loader? Times, in turn, the loader alone, the loader with its crops
// finished by the CPU backend's input stage (minus a mean image, to bf16 or fp32), and
// libjpeg-turbo's full decode alone, all on the same number of threads:
//
//   build/release/bench/loader_finished --data photos.tar [--type bf16|fp32] [--threads 2]
//                                       [--in-memory 520] [--rounds 9] [--batches 12]
//
// --in-memory: MB of copies of the files at distinct addresses in memory; 0 reads them where they
// are. Prints images per second: medians of the rounds. First checks the values of one batch
// against the formula of core/tensor/batch.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/host/clock.h"
#include "core/host/log.h"
#include "core/tensor/dtype.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"
#include "dataloader/measure.h"
#include "layers/backend.h"

namespace convoy {
namespace {

constexpr int64_t kBatch = 128;
constexpr float kMean = 128;  // of every value of the mean image: as much work as a real one

struct Options {
  std::string data;
  DType type = DType::kBFloat16;
  int threads = 2;
  int64_t in_memory_mb = 520, rounds = 9, batches = 12;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--data") options.data = value;
    if (name == "--type") options.type = value == "fp32" ? DType::kFloat32 : DType::kBFloat16;
    if (name == "--threads") options.threads = std::atoi(value.c_str());
    if (name == "--in-memory") options.in_memory_mb = std::atoll(value.c_str());
    if (name == "--rounds") options.rounds = std::atoll(value.c_str());
    if (name == "--batches") options.batches = std::atoll(value.c_str());
  }
  return options;
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Bench {
 public:
  Bench(const Options& options, std::shared_ptr<const Dataset> dataset, Log& log)
      : options_(options),
        dataset_(std::move(dataset)),
        log_(log),
        backend_(MakeCpuBackend(options.threads)),
        stream_(backend_->MakeStream()),
        crop_{224, 224, 3},
        input_(backend_->CompileInput(
            {.crop = crop_,
             .batch = kBatch,
             .dtype = options.type,
             .mean = std::vector<float>(static_cast<size_t>(crop_.count()), kMean)})),
        values_(backend_->Allocate(kBatch * crop_.count() * SizeOf(options.type))) {}

  // Images per second from the delivery of one batch to that of another, so that as much work lies
  // in the queue at the end as at the start. Each batch is finished before the next is asked for.
  double LoaderRate(int64_t round, bool finishes) {
    const std::unique_ptr<Loader> loader = MakeLoader();
    loader->Seek(round, 0);
    int64_t images = 0;
    Clock::time_point start;
    constexpr int64_t kWarmUp = 4;
    for (int64_t b = 0; b < kWarmUp + options_.batches; ++b) {
      if (b == kWarmUp) start = Clock::now();
      std::unique_ptr<Batch> batch = loader->Next();
      if (finishes) input_->Load(*stream_, *batch, Values());
      if (b >= kWarmUp) images += batch->global_count;
      loader->Recycle(std::move(batch));
    }
    return static_cast<double>(images) / SecondsSince(start);
  }

  double DecodeRate(int64_t round) {
    const int64_t images = options_.batches * kBatch;
    return static_cast<double>(images) /
           TimeDecoding(*dataset_, round * images, images, options_.threads, DecodeWork::kFull);
  }

  // Whether the finished values of a batch are those of the formula.
  bool IsRight() {
    const std::unique_ptr<Batch> batch = MakeLoader()->Next();
    input_->Load(*stream_, *batch, Values());
    const auto* pixels = static_cast<const uint8_t*>(batch->pixels.data());
    const int64_t side = crop_[1], line = side * crop_[2];
    // Sums of values up to 255 in fp32, then one rounding to the type.
    const double relative = options_.type == DType::kBFloat16 ? 0x1p-8 : 0x1p-22;
    for (int64_t at = 0; at < batch->global_count * crop_.count(); ++at) {
      const SampleInfo& sample = batch->samples[static_cast<size_t>(at / crop_.count())];
      const int64_t x = at % line / 3, c = at % 3;
      const int64_t from = sample.mirror != 0 ? at + 3 * (side - 1 - 2 * x) : at;
      const double exact = (pixels[from] - double{kMean} + double{sample.colour_shift[c]}) *
                           double{batch->colour_scale};
      if (std::abs(ValueAt(at) - exact) > 255 * 0x1p-22 + std::abs(exact) * relative) return false;
    }
    return true;
  }

 private:
  std::unique_ptr<Loader> MakeLoader() const {
    LoaderOptions loading;
    loading.global_batch = kBatch;
    loading.threads = options_.threads;
    loading.crop.colour = ColourNoise::k2012;
    loading.crop.colour_strength = [](int64_t) { return 0.1; };
    return Loader::Make(dataset_, loading, log_);
  }
  Tensor Values() const { return ViewOf(values_, options_.type, crop_.Prepend(kBatch)); }
  double ValueAt(int64_t i) const {
    return options_.type == DType::kFloat32
               ? double{Values().As<float>()[i]}
               : double{static_cast<float>(Values().As<BFloat16>()[i])};
  }

  const Options& options_;
  const std::shared_ptr<const Dataset> dataset_;
  Log& log_;
  const std::unique_ptr<Backend> backend_;
  const std::unique_ptr<Stream> stream_;
  const Shape crop_;
  const std::unique_ptr<InputStage> input_;
  const Buffer values_;
};

int Run(const Options& options) {
  Log log;
  std::shared_ptr<const Dataset> dataset = OpenDataset(options.data, {}, log);
  if (options.in_memory_mb > 0) {
    dataset = CopyIntoMemory(*dataset, options.in_memory_mb * 1'000'000);
  }
  Bench bench(options, dataset, log);
  if (!bench.IsRight()) {
    fmt::print("finished values are not those of the formula\n");
    return 1;
  }
  std::vector<double> plain, finished, decoded;
  for (int64_t round = 0; round < options.rounds; ++round) {
    plain.push_back(bench.LoaderRate(round, false));
    finished.push_back(bench.LoaderRate(round, true));
    decoded.push_back(bench.DecodeRate(round));
  }
  fmt::print("{}\n{} threads, batches of {}; medians of {} rounds in turn, images/s\n",
             dataset->Describe(), options.threads, kBatch, options.rounds);
  fmt::print("uint8 crops        {:>9.1f}: {:.3f} of full decode alone\n", Median(plain),
             Median(plain) / Median(decoded));
  fmt::print("finished {:<9} {:>9.1f}: {:.3f} of full decode alone\n", NameOf(options.type),
             Median(finished), Median(finished) / Median(decoded));
  fmt::print("full decode alone  {:>9.1f}\n", Median(decoded));
  return 0;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  const convoy::Options options = convoy::Parse(argc, argv);
  if (options.data.empty() || options.threads < 1 || options.rounds < 1 || options.batches < 1) {
    fmt::print(stderr,
               "loader_finished --data DATA [--type bf16|fp32] [--threads N] [--in-memory MB] "
               "[--rounds N] [--batches N]\n");
    return 2;
  }
  try {
    return convoy::Run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "loader_finished: {}\n", error.what());
    return 3;
  }
}
