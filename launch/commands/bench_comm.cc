// convoy bench comm: all-reduce of a network's gradients over all ranks, bucket by bucket.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/host/clock.h"
#include "core/host/json_line.h"
#include "launch/commands/bench.h"
#include "launch/options/run_options.h"
#include "trainer/plan/plan.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
  std::string bucket;
  int64_t bytes = 0;
  double p50_ms = 0, p99_ms = 0;
  double cpu_ms = 0;  // of this process, per all-reduce
  int64_t wrong = 0;  // elements that are not the sum
};

Row Measure(const BucketRange& range, const Tensor& data, World& world, Communicator& group,
            int repetitions) {
  HostStream stream;
  float* values = data.As<float>();
  std::vector<double> seconds;
  Row row{.bucket = range.name, .bytes = data.bytes()};
  const double cpu_before = ProcessCpuSeconds();
  double cpu_fill = 0;
  for (int i = 0; i < repetitions; ++i) {
    const double fill_start = ProcessCpuSeconds();
    for (int64_t e = 0; e < data.count(); ++e) {
      values[e] = static_cast<float>(world.rank() + 1) * static_cast<float>(e % 64);
    }
    cpu_fill += ProcessCpuSeconds() - fill_start;
    group.Barrier("bench");
    const Clock::time_point start = Clock::now();
    group.AllReduce(stream, data, ReduceOp::kSum, "bench").Wait(stream);
    seconds.push_back(SecondsSince(start));
  }
  row.cpu_ms = 1e3 * (ProcessCpuSeconds() - cpu_before - cpu_fill) / repetitions;
  // Small whole numbers: their sums are exact in fp32.
  const int sum_of_ranks = world.size() * (world.size() + 1) / 2;
  const auto ranks = static_cast<float>(sum_of_ranks);
  for (int64_t e = 0; e < data.count(); ++e) {
    row.wrong += values[e] == ranks * static_cast<float>(e % 64) ? 0 : 1;
  }
  std::sort(seconds.begin(), seconds.end());
  row.p50_ms = 1e3 * seconds[seconds.size() / 2];
  row.p99_ms = 1e3 * seconds[(seconds.size() - 1) * 99 / 100];
  return row;
}

// Bus bandwidth as nccl-tests define it: 2 (p - 1) / p times the bytes over the time.
double BusGigabytesPerSecond(const Row& row, int ranks) {
  return 2.0 * (ranks - 1) / ranks * static_cast<double>(row.bytes) / (1e6 * row.p50_ms);
}

}  // namespace

ExitCode BenchCommCommand(int argc, const char* const* argv) {
  std::string model;
  ModelOptions options;
  WorldOptions world_options;
  int repetitions = 10;
  bool as_json = false;
  OptionTable table("convoy bench comm", "all-reduce of a network's gradients, bucket by bucket");
  AddModelOptions(table, &model, &options);
  table.Group("Measurement");
  table.Add("repetitions", "N", "10", "all-reduces of each bucket",
            store::Integer("repetitions", 1, 1 << 20,
                           [&](int64_t n) { repetitions = static_cast<int>(n); }));
  table.Add("shared-memory", "on|off", "on", "between ranks of one host; off: all through MPI",
            store::Choice<SharedMemory>("shared-memory",
                                        {{"on", SharedMemory::kAuto}, {"off", SharedMemory::kOff}},
                                        &world_options.shared_memory));
  table.Add("deadline", "SECONDS", "600", "give up a rank that is late by so much; 0: never",
            store::Number("deadline", 0, 1e9, [&](double s) { world_options.deadline_s = s; }));
  table.AddFlag("json", "one JSON object", &as_json);
  table.Examples("Example\n  launch/convoyrun -n 2 bench comm\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log&) {
    const RankPlan plan =
        MakePlan(MakeModel(model, options), {.replicas = world.size()}, world.rank());
    const Buffer arena = world.AllocateShared(4 * plan.ParameterLayout().count());
    const std::unique_ptr<Communicator> group = world.Split("bench", 0, world.rank());
    std::vector<Row> rows;
    for (const BucketRange& range : PlanBuckets(plan)) {
      const Tensor all = ViewOf(arena, DType::kFloat32, Shape{plan.ParameterLayout().count()});
      rows.push_back(
          Measure(range, all.Range(range.begin, range.count), world, *group, repetitions));
    }
    int64_t wrong = 0;
    for (const Row& row : rows) wrong += row.wrong;
    if (world.rank() == 0 && as_json) {
      Json json = {{"bench", "comm"}, {"ranks", world.size()}, {"world", world.Describe()}};
      for (const Row& row : rows) {
        json["buckets"].push_back({{"name", row.bucket},
                                   {"bytes", row.bytes},
                                   {"p50_ms", row.p50_ms},
                                   {"p99_ms", row.p99_ms},
                                   {"cpu_ms", row.cpu_ms},
                                   {"bus_gb_per_s", BusGigabytesPerSecond(row, world.size())},
                                   {"wrong_elements", row.wrong}});
      }
      std::cout << JsonLine(json) << "\n";
    } else if (world.rank() == 0) {
      fmt::print("{}; fp32 sums, {} repetitions each; GB = 1e9 bytes\n\n", world.Describe(),
                 repetitions);
      fmt::print("{:<20}{:>12}{:>10}{:>10}{:>14}{:>12}{:>8}\n", "bucket", "MB", "p50 ms", "p99 ms",
                 "CPU ms/rank", "bus GB/s", "wrong");
      for (const Row& row : rows) {
        fmt::print("{:<20}{:>12.1f}{:>10.2f}{:>10.2f}{:>14.2f}{:>12.2f}{:>8}\n", row.bucket,
                   1e-6 * static_cast<double>(row.bytes), row.p50_ms, row.p99_ms, row.cpu_ms,
                   BusGigabytesPerSecond(row, world.size()), row.wrong);
      }
    }
    return wrong == 0 ? ExitCode::kDone : ExitCode::kDefect;
  });
}

}  // namespace convoy
