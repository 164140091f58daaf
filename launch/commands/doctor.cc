// convoy doctor: what the ranks, their processors and their links look like, and what is wrong.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/host/clock.h"
#include "core/host/json_line.h"
#include "core/host/thread_pool.h"
#include "core/text.h"
#include "core/version.h"
#include "launch/commands/bench.h"
#include "launch/commands/doctor_devices.h"
#include "launch/options/run_options.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/run/run_setup.h"
#include "trainer/step_bench.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLinkBytes = 64 << 20;
constexpr int64_t kLoaderImages = 512;

// What every rank tells rank 0. Plain bytes.
struct RankFacts {
  char processors[128] = {};  // "0-3,8"
  char quota_path[256] = {};  // the control group that sets the quota
  double quota = 0;           // processors; 0: none
  int32_t pid = 0;
  int32_t processor_count = 0;  // in the affinity mask
  int32_t online = 0;           // on the host
  int32_t threads = 0;          // of the layers
  int32_t local_rank = 0;
};

RankFacts FactsOf(const ComputeConfig& compute, const World& world) {
  RankFacts own;
  std::strncpy(own.processors, ProcessorList().c_str(), sizeof(own.processors) - 1);
  own.pid = getpid();
  own.processor_count = AvailableProcessors();
  own.online = static_cast<int32_t>(sysconf(_SC_NPROCESSORS_ONLN));
  own.threads = ThreadsPerRank(compute, world);
  own.local_rank = world.local_rank();
  if (const std::optional<ProcessorQuota> quota = FindProcessorQuota()) {
    std::strncpy(own.quota_path, quota->path.c_str(), sizeof(own.quota_path) - 1);
    own.quota = quota->processors;
  }
  return own;
}

// The ranks of a host that share something: how many, their threads in all, and one of them.
struct Sharers {
  int ranks = 0, threads = 0;
  const RankFacts* one = nullptr;

  void Add(const RankFacts& fact) {
    ++ranks;
    threads += fact.threads;
    one = &fact;
  }
};
// By host and what is shared there.
using AllSharers = std::map<std::pair<std::string, std::string>, Sharers>;

// Returns one line per thing that is wrong with threads and processors, with what to do.
std::vector<std::string> Complaints(const std::vector<RankFacts>& facts, const World& world) {
  std::vector<std::string> complaints;
  AllSharers of_processors, of_quotas;
  for (size_t rank = 0; rank < facts.size(); ++rank) {
    const RankFacts& fact = facts[rank];
    of_processors[{world.hosts()[rank], fact.processors}].Add(fact);
    if (fact.quota > 0) of_quotas[{world.hosts()[rank], fact.quota_path}].Add(fact);
    if (fact.threads > fact.processor_count) {
      complaints.push_back(
          fmt::format("rank {}: {} threads, but its affinity mask has {} processors ({}); give "
                      "mpirun --bind-to "
                      "none or --map-by slot:PE={}, or use launch/convoyrun",
                      rank, fact.threads, fact.processor_count, fact.processors, fact.threads));
    }
  }
  for (const auto& [place, sharers] : of_processors) {
    const auto& [host, processors] = place;
    const int count = sharers.one->processor_count;
    if (sharers.ranks > 1 && count == 1) {
      complaints.push_back(fmt::format(
          "{}: {} ranks are bound to processor {} alone; two runs at once bind to the same ones, "
          "give mpirun --bind-to none",
          host, sharers.ranks, processors));
    } else if (sharers.ranks > 1 && sharers.threads > count) {
      complaints.push_back(
          fmt::format("{}: {} ranks with {} threads in all on {} processors ({}); give fewer ranks "
                      "or --threads {}",
                      host, sharers.ranks, sharers.threads, count, processors,
                      std::max(1, count / sharers.ranks)));
    }
  }
  for (const auto& [place, sharers] : of_quotas) {
    const auto& [host, path] = place;
    const int processors = WholeProcessors({sharers.one->quota, path});
    if (sharers.threads <= processors) continue;
    complaints.push_back(fmt::format(
        "{}: {} of {}, but the container's quota is {:.3g} processors ({}); give --threads {} or "
        "fewer ranks, or raise the quota",
        host, FormatCount(sharers.threads, "thread"), FormatCount(sharers.ranks, "rank"),
        sharers.one->quota, path, std::max(1, processors / sharers.ranks)));
  }
  return complaints;
}

// GB/s of an all-reduce over all ranks, by bytes of the buffer over the best time.
double LinkSpeed(World& world) {
  const Buffer memory = world.AllocateShared(kLinkBytes);
  const Tensor data = ViewOf(memory, DType::kFloat32, Shape{kLinkBytes / 4});
  const std::unique_ptr<Communicator> group = world.Split("doctor", 0, world.rank());
  HostStream stream;
  double best_s = 1e9;
  for (int i = 0; i < 5; ++i) {
    group->Barrier("doctor");
    const Clock::time_point start = Clock::now();
    group->AllReduce(stream, data, ReduceOp::kSum, "doctor").Wait(stream);
    best_s = std::min(best_s, SecondsSince(start));
  }
  return 1e-9 * static_cast<double>(kLinkBytes) / best_s;
}

// Images per second that this rank's loader decodes when nobody computes.
double LoaderSpeed(std::shared_ptr<const Dataset> dataset, const DataConfig& loading,
                   const NetworkSpec& network, Log& log) {
  LoaderOptions options = LoaderOptionsOf(loading, network, 64);
  const std::unique_ptr<Loader> loader = Loader::Make(std::move(dataset), options, log);
  loader->Recycle(loader->Next());  // threads and page cache are warm after the first
  int64_t images = 0;
  const Clock::time_point start = Clock::now();
  while (images < kLoaderImages) {
    std::unique_ptr<Batch> batch = loader->Next();
    images += batch->global_count;
    loader->Recycle(std::move(batch));
  }
  return static_cast<double>(images) / SecondsSince(start);
}

}  // namespace

ExitCode DoctorCommand(int argc, const char* const* argv) {
  StepBenchOptions step;
  DataConfig loading;
  WorldOptions world_options;
  std::string data;
  bool as_json = false;
  OptionTable table("convoy doctor", "what the ranks, their processors and their data look like");
  table.Group("Check");
  table.Add("data", "DATA", "", "also hold the loader's rate on these images against the model's",
            store::Text(&data));
  table.Add("batch-size,b", "N", "64", "of the steps that are timed for that",
            store::Integer("batch-size", 1, 1 << 20, [&](int64_t n) { step.batch_size = n; }));
  table.AddFlag("json", "one JSON object", &as_json);
  AddModelOptions(table, &step.model, &step.model_options);
  AddDataOptions(table, &loading);
  AddComputeOptions(table, &step.compute, &world_options);
  table.Examples("Example\n  launch/convoyrun -n 4 doctor --towers 2\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log& log) {
    std::string backend, why_not_cuda, carrier;
    std::vector<DeviceReport> devices;
    {
      const ComputeResources resources = MakeComputeResources(step.compute, world, log);
      backend = resources.backend->Describe();
      why_not_cuda = resources.device.why_not_cuda;
      carrier = resources.grid->Describe();
      if (resources.device.kind == BackendKind::kCuda) devices = ExamineDevices(resources, world);
    }
    const std::vector<RankFacts> facts = GatherRows(world, FactsOf(step.compute, world), "doctor");
    std::vector<std::string> complaints = Complaints(facts, world);
    for (const std::string& complaint : DeviceComplaints(devices)) complaints.push_back(complaint);
    const double link_gb_per_s = world.size() > 1 ? LinkSpeed(world) : 0;
    double loader_rate = 0, step_rate = 0;
    if (!data.empty()) {
      const auto dataset = OpenTogether(data, loading, world, log);
      const NetworkSpec network = MakeModel(step.model, step.model_options);
      loader_rate = LoaderSpeed(dataset, loading, network, log) * world.size();
      step.warm_up = 1;
      step.steps = 2;
      step.limits = false;
      step_rate = BenchStep(step, world, log).images_per_s;
      if (loader_rate < step_rate) {
        complaints.push_back(
            fmt::format("the loader gives {:.0f} images/s, the model takes {:.0f}: training will "
                        "wait for data; "
                        "give --workers more threads, or pack the images smaller",
                        loader_rate, step_rate));
      }
    }
    if (world.rank() != 0) return ExitCode::kDone;
    if (as_json) {
      Json json = {{"version", kVersion}, {"world", world.Describe()}, {"backend", backend}};
      for (size_t rank = 0; rank < facts.size(); ++rank) {
        Json row = {{"rank", rank},
                    {"host", world.hosts()[rank]},
                    {"local_rank", facts[rank].local_rank},
                    {"pid", facts[rank].pid},
                    {"processors", facts[rank].processors}};
        if (facts[rank].quota > 0) row["processor_quota"] = facts[rank].quota;
        row["threads"] = facts[rank].threads;
        json["ranks"].push_back(row);
      }
      if (!why_not_cuda.empty()) json["why_not_cuda"] = why_not_cuda;
      if (!devices.empty()) json["devices"] = Json::parse(DevicesAsJson(devices, carrier));
      if (link_gb_per_s > 0) json["all_reduce_gb_per_s"] = link_gb_per_s;
      if (loader_rate > 0) {
        json["loader_images_per_s"] = loader_rate;
        json["model_images_per_s"] = step_rate;
      }
      json["complaints"] = complaints;
      std::cout << JsonLine(json) << "\n";
      return ExitCode::kDone;
    }
    fmt::print("convoy {}\n{}\n{}\n\n", kVersion, world.Describe(), backend);
    fmt::print("{:>5}  {:<24}{:>6}{:>10}  {:<20}{:>7}{:>9}\n", "rank", "host", "local", "pid",
               "processors", "quota", "threads");
    for (size_t rank = 0; rank < facts.size(); ++rank) {
      const double quota = facts[rank].quota;
      fmt::print("{:>5}  {:<24}{:>6}{:>10}  {:<20}{:>7}{:>9}\n", rank, world.hosts()[rank],
                 facts[rank].local_rank, facts[rank].pid, facts[rank].processors,
                 quota > 0 ? fmt::format("{:.3g}", quota) : "-", facts[rank].threads);
    }
    fmt::print("\n");
    if (!devices.empty()) PrintDevices(devices, carrier);
    if (link_gb_per_s > 0) {
      fmt::print("all-reduce of {} of host memory: {:.2f} GB/s\n",
                 FormatBytes(static_cast<double>(kLinkBytes)), link_gb_per_s);
    }
    if (loader_rate > 0) {
      fmt::print("loader: {:.0f} images/s over all ranks; the model takes {:.0f}\n", loader_rate,
                 step_rate);
    }
    for (const std::string& complaint : complaints) fmt::print("! {}\n", complaint);
    if (complaints.empty()) fmt::print("nothing is wrong\n");
    return ExitCode::kDone;
  });
}

}  // namespace convoy
