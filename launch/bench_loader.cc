// convoy bench loader: images per second from a data set, or the digests of its batches.
#include <fmt/format.h>

#include <iostream>

#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "core/hash.h"
#include "core/text.h"
#include "launch/bench.h"
#include "launch/run_options.h"
#include "trainer/replica_loader.h"
#include "trainer/session.h"

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
  int64_t epoch = 0, first_batch = 0, batches = 20;
  bool random = true, digest = false, as_json = false;
  int towers = 1;
};

// Everything that reaches the network of the rows with samples, in the order of their positions:
// the same on any number of ranks and threads.
uint64_t DigestOf(const Batch& batch, World& world) {
  const int64_t row_bytes = batch.shape.DropFirst().count();
  // One hash per position of the global batch, gathered by adding: each comes from one rank.
  std::vector<int64_t> hashes(static_cast<size_t>(batch.global_count));
  int64_t first = -1;
  for (const SampleInfo& sample : batch.samples) {
    if (sample.weight > 0 && (first < 0 || sample.position < first)) first = sample.position;
  }
  HostStream stream;
  if (first < 0) first = INT64_MAX;
  world.all()
      .AllReduce(stream, {&first, DType::kInt64, Shape{1}}, ReduceOp::kMin, "digest")
      .Wait(stream);
  const auto* pixels = static_cast<const uint8_t*>(batch.pixels.data());
  for (size_t row = 0; row < batch.samples.size(); ++row) {
    const SampleInfo& sample = batch.samples[row];
    if (sample.weight <= 0) continue;
    Hasher hasher;
    hasher.Add(pixels + static_cast<int64_t>(row) * row_bytes, static_cast<size_t>(row_bytes));
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

void PrintDigests(const LoaderBench& bench, ReplicaLoader& loader, ProcessGrid& grid,
                  World& world) {
  Json digests = Json::array();
  for (int64_t b = 0; b < bench.batches; ++b) {
    loader.Fetch();
    const Batch& batch = loader.Exchange();
    // The towers of a replica have the same rows; tower 0's count.
    Batch counted{.epoch = batch.epoch,
                  .index = batch.index,
                  .global_count = batch.global_count,
                  .colour_scale = batch.colour_scale,
                  .shape = batch.shape,
                  .pixels = Buffer(batch.pixels.data(), batch.pixels.bytes(), {}, {}),
                  .samples = batch.samples};
    if (grid.tower() != 0) {
      for (SampleInfo& sample : counted.samples) sample.weight = 0;
    }
    const uint64_t digest = DigestOf(counted, world);
    if (world.rank() != 0) continue;
    if (bench.as_json) {
      digests.push_back({{"epoch", batch.epoch},
                         {"batch", batch.index},
                         {"digest", fmt::format("{:016x}", digest)}});
    } else {
      fmt::print("epoch {} batch {} {:016x}\n", batch.epoch, batch.index, digest);
    }
  }
  if (world.rank() == 0 && bench.as_json) std::cout << Json{{"digests", digests}}.dump() << "\n";
}

void PrintRate(const LoaderBench& bench, ReplicaLoader& loader, World& world) {
  loader.Fetch();  // threads and page cache are warm after the first
  const LoaderStatistics before = loader.loader().statistics();
  int64_t images = 0;
  const Clock::time_point start = Clock::now();
  for (int64_t b = 0; b < bench.batches; ++b) {
    loader.Fetch();
    images += loader.Exchange().global_count;
  }
  const double seconds = SecondsSince(start);
  const LoaderStatistics after = loader.loader().statistics();
  if (world.rank() != 0) return;
  const double images_per_s = static_cast<double>(images) / seconds;
  const auto own = static_cast<double>(after.images - before.images);
  const auto per_image_ms = [&](double LoaderStatistics::*member) {
    return own > 0 ? 1e3 * (after.*member - before.*member) / own : 0;
  };
  const double bytes = static_cast<double>(after.bytes_read - before.bytes_read);
  if (bench.as_json) {
    std::cout << Json{{"bench", "loader"},
                      {"data", bench.data},
                      {"ranks", world.size()},
                      {"threads_per_rank", bench.loading.workers},
                      {"images", images},
                      {"images_per_s", images_per_s},
                      {"read_mb_per_s", 1e-6 * bytes / seconds},
                      {"read_ms_per_image", per_image_ms(&LoaderStatistics::read_s)},
                      {"decode_ms_per_image", per_image_ms(&LoaderStatistics::decode_s)},
                      {"resize_ms_per_image", per_image_ms(&LoaderStatistics::resize_s)},
                      {"bad_samples", after.bad_samples}}
                     .dump()
              << "\n";
    return;
  }
  fmt::print(
      "{} images in {:.2f} s on {} of {} threads: {:.1f} images/s (cached after the "
      "first pass)\n",
      images, seconds, FormatCount(world.size(), "rank"), bench.loading.workers, images_per_s);
  fmt::print(
      "per image and thread: read {:.3f} ms, decode {:.3f} ms, resize {:.3f} ms; {:.1f} MB/s "
      "read by rank 0\n",
      per_image_ms(&LoaderStatistics::read_s), per_image_ms(&LoaderStatistics::decode_s),
      per_image_ms(&LoaderStatistics::resize_s), 1e-6 * bytes / seconds);
}

}  // namespace

ExitCode BenchLoaderCommand(int argc, const char* const* argv) {
  LoaderBench bench;
  WorldOptions world_options;
  OptionTable table("convoy bench loader",
                    "images per second from a data set, or the digests of its batches");
  table.Group("Measurement");
  table.Add("data", "DATA", "", "images, in any form that convoy train takes",
            store::Text(&bench.data));
  table.Add("batch-size,b", "N", "128", "images of a batch over all ranks",
            store::Integer("batch-size", 1, 1 << 24, [&](int64_t n) { bench.batch_size = n; }));
  table.Add("batches", "N", "20", "batches to load",
            store::Integer("batches", 1, INT64_MAX, [&](int64_t n) { bench.batches = n; }));
  table.Add("epoch", "N", "0", "epoch to begin in",
            store::Integer("epoch", 0, (1 << 20) - 1, [&](int64_t n) { bench.epoch = n; }));
  table.Add("first-batch", "N", "0", "batch of that epoch to begin with",
            store::Integer("first-batch", 0, INT64_MAX, [&](int64_t n) { bench.first_batch = n; }));
  table.Add("seed", "N", "0", "of order, crops and colour",
            store::Integer("seed", 0, INT64_MAX,
                           [&](int64_t n) { bench.seed = static_cast<uint64_t>(n); }));
  table.Add("augment", "on|off", "on", "random place, mirror and colour",
            store::Switch("augment", &bench.random));
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
      "  convoy bench loader --data photos.tar:train -j 2\n"
      "  launch/convoyrun -n 2 bench loader --data photos.tar:train --digest    the same hashes\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  if (bench.data.empty()) throw Error(ExitCode::kUsage, "convoy bench loader: --data is missing");
  return RunOnAllRanks(world_options, "", [&](World& world, Log& log) {
    ProcessGrid grid(world, GridOf({.towers = bench.towers}, world));
    const auto dataset = OpenTogether(bench.data, bench.loading, world, log);
    const NetworkSpec network = MakeModel(bench.model, bench.model_options);
    LoaderOptions options = LoaderOptionsOf(bench.loading, network, bench.batch_size);
    options.seed = bench.seed;
    options.crop.random = bench.random;
    options.crop.colour =
        bench.random && network.input[2] == 3 ? ColourNoise::k2012 : ColourNoise::kNone;
    options.crop.colour_strength = [](int64_t) { return 0.1; };
    ReplicaLoader loader(*dataset, options, grid, grid.towers(), log);
    loader.Seek(bench.epoch, bench.first_batch);
    if (bench.digest) {
      PrintDigests(bench, loader, grid, world);
    } else {
      PrintRate(bench, loader, world);
    }
    return ExitCode::kDone;
  });
}

}  // namespace convoy
