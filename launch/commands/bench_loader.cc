// convoy bench loader: images per second from a data set, compared with the rate of decoding alone;
// or the digests of its batches.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "core/host/clock.h"
#include "core/host/json_line.h"
#include "core/median.h"
#include "core/text.h"
#include "dataloader/measure.h"
#include "launch/commands/bench.h"
#include "launch/options/run_options.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/ranks/replica_loader.h"
#include "trainer/run/run_setup.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

struct LoaderBench {
  std::string data;
  DataConfig loading;
  std::string model = "alexnet2012";
  ModelOptions model_options;
  int64_t batch_size = 128;
  uint64_t seed = 0;
  int64_t epoch = 0, first_batch = 0, batches = 12, rounds = 5;
  int64_t in_memory_bytes = 0;
  bool random = true, limit = true, scaling = false, digest = false, as_json = false;
  int towers = 1;
};

LoaderOptions OptionsOf(const LoaderBench& bench) {
  const NetworkSpec network = MakeModel(bench.model, bench.model_options);
  LoaderOptions options = LoaderOptionsOf(bench.loading, network, bench.batch_size);
  options.seed = bench.seed;
  options.crop.random = bench.random;
  options.crop.colour =
      bench.random && network.input[2] == 3 ? ColourNoise::k2012 : ColourNoise::kNone;
  options.crop.colour_strength = [](int64_t) { return 0.1; };
  return options;
}

// Returns a 64-bit hash of the rows with samples, in the order of their positions: the same on any
// number of ranks and threads. The ranks of `world` hold parts of one global batch; if towers share
// their rows, `counts` is set on one of each replica. Collective.
uint64_t DigestOf(const Batch& batch, bool counts, World& world) {
  const int64_t row_bytes = batch.shape.DropFirst().count();
  // One hash per position of the global batch, gathered by adding: each comes from one rank.
  std::vector<int64_t> hashes(static_cast<size_t>(batch.global_count));
  int64_t first = INT64_MAX;
  for (const SampleInfo& sample : batch.samples) {
    if (sample.weight > 0) first = std::min(first, sample.position);
  }
  HostStream stream;
  world.all()
      .AllReduce(stream, {&first, DType::kInt64, Shape{1}}, ReduceOp::kMin, "digest")
      .Wait(stream);
  const auto* values = static_cast<const uint8_t*>(batch.pixels.data());
  for (size_t row = 0; row < batch.samples.size() && counts; ++row) {
    const SampleInfo& sample = batch.samples[row];
    if (sample.weight <= 0) continue;
    Hasher hasher;
    hasher.Add(values + static_cast<int64_t>(row) * row_bytes, static_cast<size_t>(row_bytes));
    hasher.Add(&sample, sizeof(sample));
    hashes.at(static_cast<size_t>(sample.position - first)) = static_cast<int64_t>(hasher.Digest());
  }
  world.all()
      .AllReduce(stream, {hashes.data(), DType::kInt64, Shape{batch.global_count}}, ReduceOp::kSum,
                 "digest")
      .Wait(stream);
  Hasher whole;
  whole.Add(hashes.data(), hashes.size() * sizeof(int64_t));
  whole.Add(&batch.colour_scale, sizeof(batch.colour_scale));
  return whole.Digest();
}

void PrintDigests(const LoaderBench& bench, const std::shared_ptr<const Dataset>& dataset,
                  ProcessGrid& grid, World& world, Log& log) {
  ReplicaLoader loader(dataset, OptionsOf(bench), grid, log);
  loader.Seek(bench.epoch, bench.first_batch);
  Json digests = Json::array();
  for (int64_t b = 0; b < bench.batches; ++b) {
    loader.Fetch();
    const Batch& batch = loader.Exchange();
    // The towers of a replica have the same rows; tower 0's count.
    const uint64_t digest = DigestOf(batch, grid.place().tower == 0, world);
    if (world.rank() != 0) continue;
    if (bench.as_json) {
      digests.push_back({{"epoch", batch.epoch},
                         {"batch", batch.index},
                         {"digest", fmt::format("{:016x}", digest)}});
    } else {
      fmt::print("epoch {} batch {} {:016x}\n", batch.epoch, batch.index, digest);
    }
  }
  if (world.rank() == 0 && bench.as_json) std::cout << JsonLine(Json{{"digests", digests}}) << "\n";
}

// Images per second of several rounds.
struct Rates {
  std::vector<double> rates;

  double Median() const { return convoy::Median(rates); }
  std::string ToString() const {
    const auto [least, most] = std::minmax_element(rates.begin(), rates.end());
    return fmt::format("{:>9.1f} images/s  ({:.1f} to {:.1f})", Median(), *least, *most);
  }
};

// Measures the loader and its limits in turn, over all ranks at once.
class LoaderRounds {
 public:
  LoaderRounds(const LoaderBench& bench, std::shared_ptr<const Dataset> dataset, ProcessGrid& grid,
               World& world, Log& log)
      : bench_(bench), dataset_(std::move(dataset)), grid_(grid), world_(world), log_(log) {}

  void Run() {
    EncodedSample sample;
    dataset_->Read(0, sample);
    const bool is_compressed = sample.height == 0;
    for (int64_t round = 0; round < bench_.rounds; ++round) {
      loader.rates.push_back(LoaderRate(round, bench_.loading.workers, &part, &part_s));
      if (bench_.scaling) {
        one_thread.rates.push_back(LoaderRate(round, 1, nullptr, nullptr));
      }
      if (bench_.limit && is_compressed) {
        const int threads = bench_.loading.workers;
        full_decode.rates.push_back(DecodeRate(round, DecodeWork::kFull, threads));
        entropy_decode.rates.push_back(DecodeRate(round, DecodeWork::kEntropy, threads));
        if (bench_.scaling) {
          full_decode_one_thread.rates.push_back(DecodeRate(round, DecodeWork::kFull, 1));
        }
      }
    }
  }

  // Throws (kDefect) unless the first batch is the same on one thread and on all of them.
  void CheckDigests() {
    std::vector<uint64_t> digests;
    for (const int threads : {1, bench_.loading.workers}) {
      ReplicaLoader replica = MakeLoader(threads);
      replica.Fetch();
      digests.push_back(DigestOf(replica.Exchange(), grid_.place().tower == 0, world_));
    }
    if (digests[0] == digests[1]) return;
    throw Error(ExitCode::kDefect, fmt::format("the batch of one thread is {:016x}, of {} {:016x}",
                                               digests[0], bench_.loading.workers, digests[1]));
  }

  Rates loader, one_thread, full_decode, full_decode_one_thread, entropy_decode;
  // The statistics and seconds of this rank's loader, over all rounds.
  LoaderStatistics part;
  double part_s = 0;

 private:
  ReplicaLoader MakeLoader(int threads) {
    LoaderOptions options = OptionsOf(bench_);
    options.threads = threads;
    return {dataset_, options, grid_, log_};
  }

  double SlowestRank(double seconds) {
    HostStream stream;
    world_.all()
        .AllReduce(stream, {&seconds, DType::kFloat64, Shape{1}}, ReduceOp::kMax, "bench")
        .Wait(stream);
    return seconds;
  }

  // Measures from the delivery of one batch to that of another: threads are warm, the memory of all
  // batches has been touched, and as much work lies in the queue at the end as at the start.
  double LoaderRate(int64_t round, int threads, LoaderStatistics* total, double* total_s) {
    ReplicaLoader replica = MakeLoader(threads);
    replica.Seek(bench_.epoch + round, bench_.first_batch);
    for (int i = 0; i <= bench_.loading.queue; ++i) {
      replica.Fetch();
      replica.Exchange();
    }
    world_.all().Barrier("bench");
    const LoaderStatistics before = replica.loader().statistics();
    int64_t images = 0;
    const Clock::time_point start = Clock::now();
    for (int64_t b = 0; b < bench_.batches; ++b) {
      replica.Fetch();
      images += replica.Exchange().global_count;
    }
    const double seconds = SecondsSince(start);
    if (total != nullptr) {
      *total += replica.loader().statistics() - before;
      *total_s += seconds;
    }
    return static_cast<double>(images) / SlowestRank(seconds);
  }

  double DecodeRate(int64_t round, DecodeWork work, int threads) {
    const int64_t images = std::max<int64_t>(bench_.batches * bench_.batch_size / world_.size(), 1);
    const int64_t first = (round * world_.size() + world_.rank()) * images;
    world_.all().Barrier("bench");
    const double seconds = TimeDecoding(*dataset_, first, images, threads, work);
    return static_cast<double>(images * world_.size()) / SlowestRank(seconds);
  }

  const LoaderBench& bench_;
  const std::shared_ptr<const Dataset> dataset_;
  ProcessGrid& grid_;
  World& world_;
  Log& log_;
};

void PrintJson(const LoaderBench& bench, const LoaderRounds& rounds, const LoaderReport& report,
               World& world) {
  Json json = {{"bench", "loader"},
               {"data", bench.data},
               {"ranks", world.size()},
               {"threads_per_rank", bench.loading.workers},
               {"images_per_s", rounds.loader.Median()}};
  if (!rounds.full_decode.rates.empty()) {
    json["full_decode_images_per_s"] = rounds.full_decode.Median();
    json["entropy_decode_images_per_s"] = rounds.entropy_decode.Median();
  }
  if (!rounds.one_thread.rates.empty()) {
    json["one_thread_images_per_s"] = rounds.one_thread.Median();
  }
  if (!rounds.full_decode_one_thread.rates.empty()) {
    json["one_thread_full_decode_images_per_s"] = rounds.full_decode_one_thread.Median();
  }
  json["read_mb_per_s"] = report.read_mb_per_s;
  json["ms_per_image"] = {{"read", report.read_ms},
                          {"decode", report.decode_ms},
                          {"resize", report.resize_ms},
                          {"augment", report.augment_ms},
                          {"other", report.other_ms}};
  json["bad_samples"] = rounds.part.bad_samples;
  std::cout << JsonLine(json) << "\n";
}

void PrintTable(const LoaderBench& bench, const LoaderRounds& rounds, const LoaderReport& report,
                const Dataset& dataset, World& world) {
  fmt::print("{}\n{} of {}, batches of {}; medians of {} in turn\n\n", dataset.Describe(),
             FormatCount(world.size(), "rank"), FormatCount(bench.loading.workers, "thread"),
             bench.batch_size, FormatCount(bench.rounds, "round"));
  const double rate = rounds.loader.Median();
  fmt::print("loader                {}\n", rounds.loader.ToString());
  if (!rounds.full_decode.rates.empty()) {
    fmt::print("full decode alone     {}: loader / this = {:.3f}\n", rounds.full_decode.ToString(),
               rate / rounds.full_decode.Median());
    fmt::print("entropy decode alone  {}: loader / this = {:.3f}\n",
               rounds.entropy_decode.ToString(), rate / rounds.entropy_decode.Median());
  }
  const auto print_scaling = [&](const char* what, const Rates& one, const Rates& all) {
    if (one.rates.empty()) return;
    fmt::print("{}{}: {} threads give {:.3f} times as much per thread\n", what, one.ToString(),
               bench.loading.workers, all.Median() / bench.loading.workers / one.Median());
  };
  print_scaling("loader, one thread    ", rounds.one_thread, rounds.loader);
  print_scaling("full decode, 1 thread ", rounds.full_decode_one_thread, rounds.full_decode);
  fmt::print("\nrank 0: {:.1f} images/s per busy thread, {:.1f} MB/s read\n",
             report.images_per_busy_thread, report.read_mb_per_s);
  fmt::print("{:<24}{:>10}\n", "stage", "ms/image");
  const std::pair<const char*, double> stages[] = {{"read", report.read_ms},
                                                   {"decode", report.decode_ms},
                                                   {"resize", report.resize_ms},
                                                   {"augment", report.augment_ms},
                                                   {"other", report.other_ms}};
  for (const auto& [name, ms] : stages) fmt::print("{:<24}{:>10.3f}\n", name, ms);
  fmt::print("the first batch has the same digest on one thread\n");
}

void PrintRates(const LoaderBench& bench, const std::shared_ptr<const Dataset>& dataset,
                ProcessGrid& grid, World& world, Log& log) {
  LoaderRounds rounds(bench, dataset, grid, world, log);
  rounds.CheckDigests();
  rounds.Run();
  if (world.rank() != 0) return;
  const LoaderReport report = LoaderReport::Of(rounds.part, bench.loading.workers, rounds.part_s);
  if (bench.as_json) {
    PrintJson(bench, rounds, report, world);
  } else {
    PrintTable(bench, rounds, report, *dataset, world);
  }
}

void AddOptions(OptionTable& table, LoaderBench& bench, WorldOptions& world_options) {
  table.Group("Measurement");
  table.Add("data", "DATA", "", "images, in any form that convoy train takes",
            store::Text(&bench.data));
  table.Add("batch-size,b", "N", "128", "images of a batch over all ranks",
            store::Integer("batch-size", 1, 1 << 24, [&](int64_t n) { bench.batch_size = n; }));
  table.Add("batches", "N", "12", "batches to load (in every round)",
            store::Integer("batches", 1, 1 << 24, [&](int64_t n) { bench.batches = n; }));
  table.Add("rounds", "N", "5", "rounds of the loader and its limits in turn",
            store::Integer("rounds", 1, 10000, [&](int64_t n) { bench.rounds = n; }));
  table.Add("in-memory", "MB", "0",
            "first copy the files into memory, over and over until there are so many MB at "
            "addresses of their own; 0: read them where they are",
            store::Integer("in-memory", 0, 1 << 20,
                           [&](int64_t n) { bench.in_memory_bytes = n * 1'000'000; }));
  table.Add("limit", "on|off", "on",
            "also time libjpeg-turbo's full decode alone, and entropy decoding alone",
            store::Switch("limit", &bench.limit));
  table.AddFlag("scaling", "also time one thread", &bench.scaling);
  table.Add("epoch", "N", "0", "epoch to begin in",
            store::Integer("epoch", 0, (1 << 20) - 1, [&](int64_t n) { bench.epoch = n; }));
  table.Add("first-batch", "N", "0", "batch of that epoch to begin with",
            store::Integer("first-batch", 0, INT64_MAX, [&](int64_t n) { bench.first_batch = n; }));
  table.Add("seed", "N", "0", "of order, crops and colour",
            store::Integer("seed", 0, INT64_MAX,
                           [&](int64_t n) { bench.seed = static_cast<uint64_t>(n); }));
  table.Add("augment", "on|off", "on", "random place, mirror and colour",
            store::Switch("augment", &bench.random));
  AddDrawOptions(table, &bench.loading);
  table.Add("towers", "N", "1", "ranks that share the decoding of a replica: 1 or 2",
            store::Integer("towers", 1, 2, [&](int64_t n) { bench.towers = static_cast<int>(n); }));
  table.AddFlag("digest", "print a 64-bit hash of every global batch instead", &bench.digest);
  table.AddFlag("json", "one JSON object", &bench.as_json);
  table.Add("deadline", "SECONDS", "600", "give up a rank that is late by so much; 0: never",
            store::Number("deadline", 0, 1e9, [&](double s) { world_options.deadline_s = s; }));
  AddModelOptions(table, &bench.model, &bench.model_options);
  AddDataOptions(table, &bench.loading);
  table.Examples(
      "Example\n"
      "  convoy bench loader --data photos.tar:train -j 2 --in-memory 500 --scaling\n"
      "  launch/convoyrun -n 2 bench loader --data photos.tar:train --digest    the same hashes\n");
}

}  // namespace

ExitCode BenchLoaderCommand(int argc, const char* const* argv) {
  LoaderBench bench;
  WorldOptions world_options;
  OptionTable table("convoy bench loader",
                    "images per second from a data set beside decoding alone, or the digests of "
                    "its batches");
  AddOptions(table, bench, world_options);
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  if (bench.data.empty()) throw Error(ExitCode::kUsage, "convoy bench loader: --data is missing");
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log& log) {
    ProcessGrid grid(world, GridOf({.towers = bench.towers}, world));
    std::shared_ptr<const Dataset> dataset = OpenTogether(bench.data, bench.loading, world, log);
    if (bench.in_memory_bytes > 0) {
      RunTogether(world, [&] { dataset = CopyIntoMemory(*dataset, bench.in_memory_bytes); });
    }
    const int64_t batches = (dataset->size() + bench.batch_size - 1) / bench.batch_size;
    RunTogether(world, [&] {
      if (bench.first_batch < batches) return;
      throw Error(ExitCode::kUsage, fmt::format("--first-batch {}: an epoch has batches 0 to {}",
                                                bench.first_batch, batches - 1));
    });
    if (bench.digest) {
      PrintDigests(bench, dataset, grid, world, log);
    } else {
      PrintRates(bench, dataset, grid, world, log);
    }
    return ExitCode::kDone;
  });
}

}  // namespace convoy
