#include "trainer/ranks/compute_resources.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "comm/grid.h"
#include "core/host/numa.h"
#include "core/host/thread_pool.h"
#include "core/text.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

// What every rank tells the others. Plain bytes.
struct DeviceFinding {
  char uuid[64] = {};     // empty if there is no device
  char reason[448] = {};  // why not
  int32_t exit_code = 0;
  int32_t device = 0, visible = 0;
};

void Put(const std::string& text, char* to, size_t size) {
  std::strncpy(to, text.c_str(), size - 1);
}

std::string NameOfRank(size_t rank, const World& world) {
  return fmt::format("rank {} ({})", rank, world.hosts()[rank]);
}

// Throws unless every rank of a host has a device of its own.
void RequireOwnDevices(const std::vector<DeviceFinding>& findings, const World& world) {
  for (size_t a = 0; a < findings.size(); ++a) {
    for (size_t b = a + 1; b < findings.size(); ++b) {
      if (world.hosts()[a] != world.hosts()[b]) continue;
      if (std::strcmp(findings[a].uuid, findings[b].uuid) != 0) continue;
      throw Error(ExitCode::kUsage,
                  fmt::format("{} and {} would share the device {}; visible there: {}",
                              NameOfRank(a, world), NameOfRank(b, world), findings[a].uuid,
                              FormatCount(findings[a].visible, "device")),
                  "start as many ranks per host as it has devices, give --share-device on, or "
                  "--backend cpu");
    }
  }
}

// Returns why not every rank has a device; empty if all do.
std::string FirstObstacle(const std::vector<DeviceFinding>& findings, const World& world) {
  for (size_t rank = 0; rank < findings.size(); ++rank) {
    if (findings[rank].exit_code == 0) continue;
    return findings.size() > 1
               ? fmt::format("on {} {}", NameOfRank(rank, world), findings[rank].reason)
               : findings[rank].reason;
  }
  return {};
}

// Also compares NCCL versions, if NCCL may be used.
void RequireSameLibraries(const Backend& backend, CommunicatorKind communicator, World& world) {
  if (world.size() == 1) return;
  std::string own = backend.Libraries();
  RunTogether(world, [&] {
    if (communicator != CommunicatorKind::kMpi) {
      own += ", NCCL " + NameOfNcclVersion(NcclVersion());
    }
  });
  const std::vector<std::string> libraries = GatherTexts(world, own, "libraries");
  RunTogether(world, [&] { convoy::RequireSameLibraries(world.hosts(), libraries); });
}

// Nothing if every kernel was known.
void SayHowLong(const std::vector<KernelMeasurement>& measured, Log& log) {
  if (measured.empty()) return;
  double seconds = 0;
  const KernelMeasurement* slowest = &measured.front();
  for (const KernelMeasurement& one : measured) {
    seconds += one.seconds;
    if (one.seconds > slowest->seconds) slowest = &one;
  }
  log.Info("kernels of {} chosen in {:.1f} s; most for {}: {:.1f} s, {} tried",
           FormatCount(std::ssize(measured), "product"), seconds, slowest->product,
           slowest->seconds, slowest->tried);
}

// Call before threads or pinned memory are created: they stay on the node where they were created.
void BindToNodeOf(const ChosenDevice& device, Log& log) {
  const std::string processors = BindToNumaNode(device.cuda.numa_node);
  if (processors.empty()) return;
  log.Info("bound to processors {} of NUMA node {}, that of cuda:{}", processors,
           device.cuda.numa_node, device.index);
}

std::unique_ptr<Backend> MakeBackend(const ComputeConfig& config, const ChosenDevice& device,
                                     const World& world, Log& log) {
  if (device.kind == BackendKind::kCuda) {
    return MakeCudaBackend({.device = device.index,
                            .tf32 = config.tf32,
                            .workspace_bytes = config.workspace_bytes,
                            .kernel_choices = {}});
  }
  const int threads = ThreadsPerRank(config, world);
  const int allowed = AvailableProcessors();
  if (threads > allowed) {
    log.Warning(
        "{} threads on {} processors: the affinity mask is smaller than --threads; give "
        "mpirun --bind-to none or --map-by slot:PE={}, or use launch/convoyrun",
        threads, allowed, threads);
  }
  const std::optional<ProcessorQuota> quota = FindProcessorQuota();
  if (quota && world.local_rank() == 0 && threads * world.local_size() > WholeProcessors(*quota)) {
    log.Warning(
        "{} on this host, but the container's quota is {:.3g} processors ({}): they are halted "
        "when it is used up; give --threads {} or fewer ranks",
        FormatCount(threads * world.local_size(), "thread"), quota->processors, quota->path,
        std::max(1, WholeProcessors(*quota) / world.local_size()));
  }
  return device.kind == BackendKind::kOracle ? MakeOracleBackend(threads) : MakeCpuBackend(threads);
}

}  // namespace

ChosenDevice ChooseDevice(const ComputeConfig& config, World& world, Log& log) {
  if (config.backend == BackendKind::kCpu || config.backend == BackendKind::kOracle) {
    return {.kind = config.backend, .cuda = {}, .why_not_cuda = {}};
  }
  DeviceFinding own;
  CudaInstallation installation;
  std::optional<Error> fault;
  try {
    installation = FindCudaDevices();
    own.visible = static_cast<int32_t>(installation.devices.size());
    own.device = world.local_rank() % own.visible;
    Put(installation.devices[static_cast<size_t>(own.device)].uuid, own.uuid, sizeof(own.uuid));
  } catch (const Error& error) {
    fault = error;
    own.exit_code = static_cast<int32_t>(error.exit_code());
    Put(error.message(), own.reason, sizeof(own.reason));
  }
  if (config.backend == BackendKind::kCuda) {
    RunTogether(world, [&] {
      if (fault) throw Error(*fault);
    });
  }
  const std::vector<DeviceFinding> findings = GatherRows(world, own, "devices");
  const std::string obstacle = FirstObstacle(findings, world);
  if (!obstacle.empty()) {  // only with kAuto
    log.Info("--backend auto: computing on the CPU, since {}", obstacle);
    return {.kind = BackendKind::kCpu, .cuda = {}, .why_not_cuda = obstacle};
  }
  if (!config.share_device) RunTogether(world, [&] { RequireOwnDevices(findings, world); });
  return {.kind = BackendKind::kCuda,
          .index = own.device,
          .cuda = installation.devices[static_cast<size_t>(own.device)],
          .why_not_cuda = {}};
}

void RequireSameLibraries(const std::vector<std::string>& hosts,
                          const std::vector<std::string>& libraries) {
  // Who has which versions: the first rank of each host, in the order of ranks.
  std::vector<std::pair<std::string, std::vector<std::string>>> table;
  for (size_t rank = 0; rank < libraries.size(); ++rank) {
    const bool is_told =
        rank > 0 && hosts[rank] == hosts[rank - 1] && libraries[rank] == libraries[rank - 1];
    if (is_told) continue;
    auto row = std::find_if(table.begin(), table.end(),
                            [&](const auto& one) { return one.first == libraries[rank]; });
    if (row == table.end()) row = table.insert(row, {libraries[rank], {}});
    row->second.push_back(fmt::format("rank {} ({})", rank, hosts[rank]));
  }
  if (table.size() < 2) return;
  std::vector<std::string> rows;
  for (const auto& [versions, ranks] : table) {
    rows.push_back(fmt::format("{} {} {}", fmt::join(ranks, ", "),
                               ranks.size() == 1 ? "has" : "have", versions));
  }
  throw Error(ExitCode::kUsage, fmt::format("{}", fmt::join(rows, "; ")),
              "install the same versions on every host, and see LD_LIBRARY_PATH there");
}

std::string ComputeResources::Describe() const {
  if (backend->device().kind == DeviceKind::kCpu) return backend->Describe();
  return fmt::format("{}; {}", backend->Describe(), grid->Describe());
}

ComputeResources MakeComputeResources(const ComputeConfig& config, World& world, Log& log) {
  GridShape shape;
  RunTogether(world, [&] { shape = GridOf(config, world); });
  ComputeResources resources{.world = &world};
  resources.device = ChooseDevice(config, world, log);
  const bool is_cuda = resources.device.kind == BackendKind::kCuda;
  if (is_cuda && config.bind_to_node) BindToNodeOf(resources.device, log);
  RunTogether(world, [&] {
    resources.backend = MakeBackend(config, resources.device, world, log);
    resources.backend->RequireDType(config.dtype);
    resources.stream = resources.backend->MakeStream();
  });
  const std::shared_ptr<Backend> backend = resources.backend;
  if (is_cuda) {
    RequireSameLibraries(*backend, config.communicator, world);
    if (world.rank() == 0) {
      resources.kernel_cache =
          KernelCache(KernelCacheFolder(config.kernel_cache), backend->Platform(), log);
    }
    ShareKernelChoices(resources, resources.kernel_cache.choices(), 0);
  }
  const GroupOptions groups{.device = backend->device(),
                            .communicator = config.communicator,
                            .device_uuid = resources.device.cuda.uuid,
                            .make_stream = [backend] { return backend->MakeStream(); },
                            .allocate_pinned = StagingMemoryOf(resources),
                            .deadline_s = config.deadline_s};
  // What forbids it is said once.
  if (is_cuda) RunTogether(world, [&] { ChooseCommunicator(world, groups); });
  resources.grid = std::make_unique<ProcessGrid>(world, shape, groups);
  return resources;
}

Allocator StagingMemoryOf(const ComputeResources& resources) {
  return [backend = resources.backend](int64_t bytes) { return backend->AllocateStaging(bytes); };
}

Allocator CollectiveMemoryOf(const ComputeResources& resources, Communicator& group) {
  const std::shared_ptr<Backend> backend = resources.backend;
  if (backend->device().kind == DeviceKind::kCpu) {
    return [world = resources.world](int64_t bytes) { return world->AllocateShared(bytes); };
  }
  return [backend, &group](int64_t bytes) {
    Buffer registered = group.AllocateRegistered(bytes);
    return registered ? std::move(registered) : backend->Allocate(bytes);
  };
}

void ShareKernelChoices(const ComputeResources& resources, const KernelChoices& choices, int root) {
  std::string text;
  for (const auto& [product, choice] : choices) text += fmt::format("{}\n{}\n", product, choice);
  const std::vector<std::string> lines =
      Split(BroadcastText(*resources.world, text, root, "kernel choices"), '\n');
  KernelChoices shared;
  for (size_t i = 0; i + 1 < lines.size(); i += 2) shared[lines[i]] = lines[i + 1];
  resources.backend->UseKernelChoices(shared);
}

std::vector<KernelMeasurement> CompileTogether(ComputeResources& resources, Log& log,
                                               const std::function<void()>& compile) {
  World& world = *resources.world;
  Backend& backend = *resources.backend;
  if (backend.device().kind == DeviceKind::kCpu) {
    RunTogether(world, compile);
    return {};
  }
  const int ranks_of_replica = resources.grid->shape().ranks_per_replica();
  constexpr const char* kChoosing = "choosing kernels";
  for (int turn = 0; turn < ranks_of_replica; ++turn) {
    RunTogetherWithoutDeadline(world, world.rank() == turn ? kChoosing : "", [&] {
      if (world.rank() == turn) compile();
    });
    ShareKernelChoices(resources, backend.kernel_choices(), turn);
  }
  RunTogetherWithoutDeadline(world, world.rank() >= ranks_of_replica ? kChoosing : "", [&] {
    if (world.rank() >= ranks_of_replica) compile();
  });
  if (world.rank() == 0) resources.kernel_cache.Add(backend.kernel_choices());
  std::vector<KernelMeasurement> measured = backend.TakeKernelMeasurements();
  SayHowLong(measured, log);
  return measured;
}

GridShape GridOf(const ComputeConfig& config, const World& world) {
  RequireTowers(config.towers);
  const int ranks = world.size();
  const int64_t of_replica = int64_t{config.fc_shards} * config.towers;
  const int64_t whole = ranks / of_replica;  // replicas that these ranks are enough for
  const std::string cut = config.fc_shards == 1 ? fmt::format("--towers {}", config.towers)
                          : config.towers == 1  ? fmt::format("--fc-shards {}", config.fc_shards)
                                                : fmt::format("--fc-shards {} x --towers {}",
                                                              config.fc_shards, config.towers);
  if (config.replicas == 0 && whole * of_replica != ranks) {
    const int64_t more = (whole + 1) * of_replica;
    const std::string fewer = whole > 0 ? fmt::format("{} or ", whole * of_replica) : "";
    throw Error(
        ExitCode::kUsage,
        fmt::format("{} needs a multiple of {} ranks, the world has {}", cut, of_replica, ranks),
        fmt::format("start {}{} ranks, as with launch/convoyrun -n {}", fewer, more, more));
  }
  const int64_t replicas = config.replicas > 0 ? config.replicas : whole;
  if (replicas * of_replica != ranks) {
    const bool fits = whole * of_replica == ranks;
    throw Error(ExitCode::kUsage,
                fmt::format("--replicas {} x {} needs {} ranks, the world has {}", replicas, cut,
                            replicas * of_replica, ranks),
                fmt::format("start it with launch/convoyrun -n {}{}", replicas * of_replica,
                            fits ? fmt::format(", or give --replicas {}", whole) : ""));
  }
  return {
      .replicas = static_cast<int>(replicas), .shards = config.fc_shards, .towers = config.towers};
}

int ThreadsPerRank(const ComputeConfig& config, const World& world) {
  if (config.threads > 0) return config.threads;
  return ShareOfProcessors(AvailableProcessors(), world.processor_sharers(), FindProcessorQuota(),
                           world.local_size());
}

int ShareOfProcessors(int processors, int sharers, const std::optional<ProcessorQuota>& quota,
                      int ranks_of_host) {
  int share = processors / sharers;
  if (quota) share = std::min(share, WholeProcessors(*quota) / ranks_of_host);
  return std::max(1, share);
}

}  // namespace convoy
