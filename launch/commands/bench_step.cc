// convoy bench step and convoy bench layers.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/host/json_line.h"
#include "core/text.h"
#include "launch/commands/bench.h"
#include "launch/options/optimizer_options.h"
#include "launch/options/run_options.h"
#include "trainer/ranks/agreement.h"
#include "trainer/step_bench.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

struct Percentiles {
  double p10 = 0, p50 = 0, p90 = 0;
};

Percentiles PercentilesOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
  };
  return {at(0.1), at(0.5), at(0.9)};
}

Json ToJson(const StepBenchOptions& options, const StepBenchResult& result, const World& world) {
  const Percentiles step = PercentilesOf(result.step_s);
  Json json = {
      {"bench", "step"},
      {"model", options.model},
      {"dtype", NameOf(options.compute.dtype)},
      {"batch_size", options.batch_size},
      {"accumulate", options.accumulate},
      {"ranks", world.size()},
      {"towers", options.compute.towers},
      {"fc_shards", options.compute.fc_shards},
      {"optimizer", NameOf(options.rule)},
      {"overlap", options.overlap == Overlap::kOn},
      {"shards_update", result.shards_update},
      {"backend", result.backend},
      {"data", "synthetic"},
      {"warm_up_steps", options.warm_up},
      {"timed_steps", options.steps},
      {"images_per_s", result.images_per_s},
      {"step_ms", {{"p10", 1e3 * step.p10}, {"p50", 1e3 * step.p50}, {"p90", 1e3 * step.p90}}},
      {"forward_ms", 1e3 * result.forward_s},
      {"backward_ms", 1e3 * result.backward_s},
      {"exchange_wait_ms", 1e3 * result.exchange_wait_s},
      {"exposed_reduction_ms", 1e3 * result.reduce_wait_s},
      {"update_ms", 1e3 * result.update_s},
      {"first_loss", result.first_loss},
      {"peak_memory_bytes", result.peak_memory_bytes}};
  if (result.device_memory_bytes > 0) json["device_memory_bytes"] = result.device_memory_bytes;
  if (result.limit_s > 0) {
    json["limit_ms"] = 1e3 * result.limit_s;
    json["limit_images_per_s"] = static_cast<double>(options.batch_size) / result.limit_s;
    json["share_of_limit"] = result.limit_s / step.p50;
  }
  if (!result.why_not_recorded.empty()) json["why_not_recorded"] = result.why_not_recorded;
  for (const auto& [product, kernel] : result.kernels) json["kernels"][product] = kernel;
  for (const KernelMeasurement& one : result.measured) {
    json["measured_kernels"].push_back({{"product", one.product},
                                        {"kernel", one.choice},
                                        {"seconds", one.seconds},
                                        {"tried", one.tried},
                                        {"refused", one.refused}});
  }
  for (const OperationRow& row : result.operations) {
    Json entry = {{"operation", row.name}, {"ms", 1e3 * row.seconds}};
    if (row.limit_s > 0) {
      entry["limit_ms"] = 1e3 * row.limit_s;
      entry["gflops"] = 1e-9 * row.flops / row.seconds;
      entry["bytes"] = row.bytes;
    }
    json["operations"].push_back(entry);
  }
  return json;
}

// What this rank's groups carry in a step, in the words of `summary --program`.
Json TrafficToJson(const StepBenchResult& result) {
  Json rows = Json::array();
  for (const ProcessGrid::Traffic& one : result.traffic) {
    if (one.axes.empty()) continue;
    rows.push_back({{"operation", one.row.what},
                    {"collective", NameOf(one.row.kind)},
                    {"over", NameOf(one.axes)},
                    {"calls", one.row.calls},
                    {"bytes", one.row.bytes}});
  }
  return rows;
}

// Returns what every rank says of itself. Collective over the world.
Json ByRank(const StepBenchResult& result, World& world) {
  const Json own = {{"rank", world.rank()},
                    {"memory_bytes", result.memory_bytes},
                    {"traffic", TrafficToJson(result)}};
  Json ranks = Json::array();
  for (const std::string& text : GatherTexts(world, own.dump(), "results of the ranks")) {
    ranks.push_back(Json::parse(text));
  }
  return ranks;
}

void PrintTraffic(const StepBenchResult& result) {
  int64_t sum = 0;
  for (const ProcessGrid::Traffic& one : result.traffic) sum += one.row.bytes;
  if (sum == 0) return;
  fmt::print("\n{:<24}{:<16}{:<22}{:>8}{:>16}\n", "received in a step", "by", "over", "calls",
             "bytes");
  for (const ProcessGrid::Traffic& one : result.traffic) {
    if (one.axes.empty()) continue;
    fmt::print("{:<24}{:<16}{:<22}{:>8}{:>16}\n", one.row.what, NameOf(one.row.kind),
               NameOf(one.axes), FormatCount(one.row.calls), FormatCount(one.row.bytes));
  }
  fmt::print("{:<70}{:>16}\n", "all", FormatCount(sum));
}

void PrintOperations(const StepBenchResult& result) {
  fmt::print("{:<32}{:>10}{:>12}{:>12}{:>10}{:>10}\n", "operation", "ms", "limit ms", "GFLOP/s",
             "GB/s", "of limit");
  double sum = 0;
  for (const OperationRow& row : result.operations) {
    sum += row.seconds;
    if (row.limit_s > 0) {
      fmt::print("{:<32}{:>10.2f}{:>12.2f}{:>12.0f}{:>10.1f}{:>9.0f}%\n", row.name,
                 1e3 * row.seconds, 1e3 * row.limit_s, 1e-9 * row.flops / row.seconds,
                 1e-9 * row.bytes / row.seconds, 100 * row.limit_s / row.seconds);
    } else {
      fmt::print("{:<32}{:>10.2f}{:>12}{:>12}{:>10}{:>10}\n", row.name, 1e3 * row.seconds, "-", "-",
                 "-", "-");
    }
  }
  fmt::print("{:<32}{:>10.2f}{:>12.2f}\n", "all operations", 1e3 * sum, 1e3 * result.limit_s);
}

// Prints what computes each product on a device, and why steps are not recorded if they are not.
void PrintKernels(const StepBenchResult& result) {
  if (!result.why_not_recorded.empty()) {
    fmt::print("\nsteps are not recorded: {}\n", result.why_not_recorded);
  }
  if (result.kernels.empty()) return;
  fmt::print("\n{:<40}  {}\n", "kernel of the library", "for the product");
  for (const auto& [product, kernel] : result.kernels) {
    fmt::print("{:<40}  {}\n", kernel, product);
  }
}

void PrintStep(const StepBenchOptions& options, const StepBenchResult& result, const World& world) {
  const Percentiles step = PercentilesOf(result.step_s);
  fmt::print("{} {} batch {} on {}, {}; synthetic data; {} warm-up and {} timed steps\n\n",
             options.model, NameOf(options.compute.dtype), options.batch_size,
             FormatCount(world.size(), "rank"), result.backend, options.warm_up, options.steps);
  PrintOperations(result);
  fmt::print("\n{:<32}{:>10.2f} ms   (p10 {:.2f}, p90 {:.2f})\n", "step, p50", 1e3 * step.p50,
             1e3 * step.p10, 1e3 * step.p90);
  fmt::print("{:<32}{:>10.2f} ms\n", "  forward", 1e3 * result.forward_s);
  fmt::print("{:<32}{:>10.2f} ms\n", "  backward", 1e3 * result.backward_s);
  fmt::print("{:<32}{:>10.2f} ms   (within forward and backward)\n", "  exchange of activations",
             1e3 * result.exchange_wait_s);
  fmt::print("{:<32}{:>10.2f} ms\n", "  exposed reduction", 1e3 * result.reduce_wait_s);
  fmt::print("{:<32}{:>10.2f} ms\n", "  update", 1e3 * result.update_s);
  fmt::print("{:<32}{:>10.1f} images/s\n", "throughput", result.images_per_s);
  if (result.limit_s > 0) {
    fmt::print("{:<32}{:>10.1f} images/s   ({}); reached {:.0f} %\n", "limit",
               static_cast<double>(options.batch_size) / result.limit_s,
               result.device_memory_bytes > 0
                   ? "the products alone, and the rest at the rate of a copy on the device"
                   : "this rank's vendor primitives alone",
               100 * result.limit_s / step.p50);
  }
  fmt::print("{:<32}{:>10}\n", "peak memory",
             FormatBytes(static_cast<double>(result.peak_memory_bytes)));
  if (result.memory_bytes > 0) {
    fmt::print("{:<32}{:>10}   (without what the process had before)\n", "memory of the steps",
               FormatBytes(static_cast<double>(result.memory_bytes)));
  }
  if (result.device_memory_bytes > 0) {
    fmt::print("{:<32}{:>10}\n", "device memory in use",
               FormatBytes(static_cast<double>(result.device_memory_bytes)));
  }
  fmt::print("{:<32}{:>10.4f}   (checked: that of a fresh network)\n", "first loss",
             result.first_loss);
  PrintTraffic(result);
  PrintKernels(result);
}

}  // namespace

ExitCode BenchStepCommand(int argc, const char* const* argv, bool layers_only) {
  StepBenchOptions options;
  WorldOptions world_options;
  bool as_json = false;
  OptionTable table(layers_only ? "convoy bench layers" : "convoy bench step",
                    layers_only ? "each operation of a step against its vendor primitive alone"
                                : "training steps on synthetic data, and what limits them");
  table.Group("Measurement");
  table.Add("batch-size,b", "N", "128", "images of a step over all ranks",
            store::Integer("batch-size", 1, 1 << 24, [&](int64_t n) { options.batch_size = n; }));
  table.Add("accumulate", "M", "1", "micro-batches of a step, whose gradients add up",
            store::Integer("accumulate", 1, 1 << 20,
                           [&](int64_t n) { options.accumulate = static_cast<int>(n); }));
  table.Add("steps", "N", "5", "timed steps", store::Integer("steps", 1, 1 << 20, [&](int64_t n) {
              options.steps = static_cast<int>(n);
            }));
  table.Add("warm-up", "N", "2", "steps before them",
            store::Integer("warm-up", 0, 1 << 20,
                           [&](int64_t n) { options.warm_up = static_cast<int>(n); }));
  AddRuleOption(table, &options.rule);
  AddClipOption(table, &options.clip_norm);
  table.Add("limits", "on|off", "on", "measure the vendor's primitives alone too",
            store::Switch("limits", &options.limits));
  table.Add("overlap", "on|off", "on", "reduce gradients while backward goes on",
            store::Choice<Overlap>("overlap", {{"on", Overlap::kOn}, {"off", Overlap::kOff}},
                                   &options.overlap));
  table.Add(
      "reduce-dtype", "TYPE", "fp32", "of gradients on the wire: fp32 or bf16",
      store::Choice<DType>("reduce-dtype", {{"fp32", DType::kFloat32}, {"bf16", DType::kBFloat16}},
                           &options.reduce_dtype));
  table.Add(
      "shard-update", "auto|on|off", "auto",
      "each rank updates a part of the parameters that others hold too, and keeps the "
      "optimiser's states of only this part; auto: between ranks of one host that compute on "
      "CPUs, where it is faster",
      store::Choice<ShardUpdate>(
          "shard-update",
          {{"auto", ShardUpdate::kAuto}, {"on", ShardUpdate::kOn}, {"off", ShardUpdate::kOff}},
          &options.shard_update));
  table.AddFlag("json", "one JSON object", &as_json);
  AddModelOptions(table, &options.model, &options.model_options);
  AddComputeOptions(table, &options.compute, &world_options);
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log& log) {
    const StepBenchResult result = BenchStep(options, world, log);
    const Json by_rank = ByRank(result, world);
    if (world.rank() != 0) return ExitCode::kDone;
    if (as_json) {
      Json json = ToJson(options, result, world);
      json["by_rank"] = by_rank;
      std::cout << JsonLine(json) << "\n";
    } else if (layers_only) {
      PrintOperations(result);
    } else {
      PrintStep(options, result, world);
    }
    return ExitCode::kDone;
  });
}

}  // namespace convoy
