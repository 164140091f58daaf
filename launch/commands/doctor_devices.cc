#include "launch/commands/doctor_devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include <nlohmann/json.hpp>

#include "comm/grid.h"
#include "core/host/clock.h"
#include "core/host/json_line.h"
#include "core/host/numa.h"
#include "core/host/thread_pool.h"
#include "core/text.h"
#include "trainer/ranks/agreement.h"

namespace convoy {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CudaDevice, name, uuid, pci_bus_id, numa_node,
                                   compute_capability, memory_bytes, reaches)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AllReduceReport, group, ranks, by_nccl, gb_per_s, elements,
                                   wrong_elements)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DeviceReport, rank, host, local_rank, ordinal, device,
                                   free_bytes, visible, driver, runtime, nccl, backend, processors,
                                   far_processors, to_device_gb_per_s, to_host_gb_per_s,
                                   all_reduces)

namespace {

using Json = nlohmann::json;

constexpr int64_t kMeasuredBytes = 64 << 20;
constexpr int kRepetitions = 5;
// Of the copy's rate. Between devices that reach each other an all-reduce is as fast as a copy, or
// faster; by way of host memory it takes two.
constexpr double kLeastShareOfCopy = 0.25;

// "13.0" of 13000.
std::string NameOfCudaVersion(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// `bytes` over the best time of `work`; `prepare` comes before each and is not timed.
double BestRate(int64_t bytes, const std::function<void()>& prepare,
                const std::function<void()>& work) {
  double best_s = 1e9;
  for (int i = 0; i < kRepetitions; ++i) {
    prepare();
    const Clock::time_point start = Clock::now();
    work();
    best_s = std::min(best_s, SecondsSince(start));
  }
  return 1e-9 * static_cast<double>(bytes) / best_s;
}

// What a rank of a group puts into element `i`, and a factor of it: small whole numbers, whose sums
// are exact in fp32.
float FactorOf(int group_rank) { return static_cast<float>(group_rank % 8 + 1); }
float PatternAt(int64_t i) { return static_cast<float>(i % 64); }

// Every rank's report, as text: their sizes differ.
std::vector<DeviceReport> GatherReports(const DeviceReport& own, World& world) {
  std::vector<DeviceReport> reports;
  const std::string text = JsonLine(Json(own));
  for (const std::string& report : GatherTexts(world, text, "devices")) {
    reports.push_back(Json::parse(report).get<DeviceReport>());
  }
  return reports;
}

DeviceReport Describe(const ComputeResources& resources, const World& world) {
  const CudaInstallation installation = FindCudaDevices();
  const CudaDevice& device = resources.device.cuda;
  DeviceReport report{.rank = world.rank(),
                      .host = world.hosts()[static_cast<size_t>(world.rank())],
                      .local_rank = world.local_rank(),
                      .ordinal = resources.device.index,
                      .device = device,
                      .visible = installation.devices,
                      .driver = installation.driver,
                      .runtime = installation.runtime,
                      .nccl = NcclVersion(),
                      .backend = resources.backend->Describe(),
                      .processors = ProcessorList(),
                      .all_reduces = {}};
  report.free_bytes = device.memory_bytes - resources.backend->device_memory_in_use();
  report.far_processors = device.numa_node >= 0 && NumaNodeCount() > 1 &&
                          ProcessorsOfNode(device.numa_node, AllowedProcessors()).empty();
  return report;
}

// One line about a group, or nothing. `of_group`: the report of each of its ranks.
std::string ComplaintAbout(const AllReduceReport& group,
                           const std::vector<const DeviceReport*>& of_group) {
  const std::string who =
      fmt::format("all-reduce of {} (ranks {})", group.group, fmt::join(group.ranks, ", "));
  std::set<std::string> hosts;
  double copy = of_group[0]->to_device_gb_per_s;
  for (const DeviceReport* report : of_group) {
    hosts.insert(report->host);
    copy = std::min({copy, report->to_device_gb_per_s, report->to_host_gb_per_s});
    for (const AllReduceReport& found : report->all_reduces) {
      if (found.group != group.group || found.wrong_elements == 0) continue;
      return fmt::format(
          "{}: {} of {} elements are wrong on rank {}; {}", who, FormatCount(found.wrong_elements),
          FormatCount(found.elements), report->rank,
          found.by_nccl ? "a peer-to-peer path is broken: NCCL_P2P_DISABLE=1 avoids it, access "
                          "control services (ACS) or an IOMMU on PCIe are the usual cause"
                        : "copies to and from a device are: see the system log for its faults");
    }
  }
  const auto ranks = static_cast<double>(group.ranks.size());
  const double on_the_wire = 2 * (ranks - 1) / ranks * group.gb_per_s;
  // Between hosts the network is the limit.
  if (!group.by_nccl || hosts.size() > 1 || on_the_wire >= kLeastShareOfCopy * copy) return {};
  return fmt::format(
      "{}: {:.2f} GB/s per device, though a copy from host memory reaches {:.2f}: a peer-to-peer "
      "path looks broken; try NCCL_P2P_DISABLE=1, and see what NCCL_DEBUG=INFO and nvidia-smi "
      "topo -m say",
      who, on_the_wire, copy);
}

}  // namespace

CopySpeed MeasureCopies(Backend& backend, Stream& stream, int64_t bytes) {
  const Buffer pinned = backend.AllocateStaging(bytes), memory = backend.Allocate(bytes);
  const Tensor on_device = ViewOf(memory, DType::kUInt8, Shape{bytes});
  const auto nothing = [] {};
  return {.to_device_gb_per_s = BestRate(
              bytes, nothing, [&] { backend.CopyToDevice(stream, pinned.data(), on_device); }),
          .to_host_gb_per_s = BestRate(
              bytes, nothing, [&] { backend.CopyToHost(stream, on_device, pinned.data()); })};
}

AllReduceReport MeasureAllReduce(Backend& backend, Stream& stream, Communicator& group,
                                 const Allocator& allocate, int64_t bytes) {
  const Shape shape{bytes / SizeOf(DType::kFloat32)};
  const Buffer pinned = backend.AllocateStaging(bytes), memory = allocate(bytes);
  const Tensor on_host = ViewOf(pinned, DType::kFloat32, shape),
               on_device = ViewOf(memory, DType::kFloat32, shape);
  AllReduceReport report{.by_nccl = group.queues_on_device(), .elements = shape.count()};
  auto* const values = on_host.As<float>();
  for (int64_t i = 0; i < report.elements; ++i) values[i] = FactorOf(group.rank()) * PatternAt(i);
  backend.CopyToDevice(stream, values, on_device);
  const auto all_reduce = [&] {
    group.AllReduce(stream, on_device, ReduceOp::kSum, "doctor").Wait(stream);
    stream.Synchronize();
  };
  all_reduce();
  backend.CopyToHost(stream, on_device, values);
  float factor = 0;
  for (int rank = 0; rank < group.size(); ++rank) factor += FactorOf(rank);
  for (int64_t i = 0; i < report.elements; ++i) {
    report.wrong_elements += values[i] == factor * PatternAt(i) ? 0 : 1;
  }
  report.gb_per_s = BestRate(
      bytes, [&] { group.Barrier("doctor"); }, all_reduce);
  return report;
}

std::vector<DeviceReport> ExamineDevices(const ComputeResources& resources, World& world) {
  Backend& backend = *resources.backend;
  ProcessGrid& grid = *resources.grid;
  DeviceReport own;
  world.all().Barrier("doctor");
  RunTogether(world, [&] {
    own = Describe(resources, world);
    const CopySpeed speed = MeasureCopies(backend, *resources.stream, kMeasuredBytes);
    own.to_device_gb_per_s = speed.to_device_gb_per_s;
    own.to_host_gb_per_s = speed.to_host_gb_per_s;
  });
  const auto measure = [&](Axes axes) {
    Communicator& group = grid.Along(axes);
    if (group.size() == 1) return;
    AllReduceReport report = MeasureAllReduce(backend, *resources.stream, group,
                                              CollectiveMemoryOf(resources, group), kMeasuredBytes);
    report.group = NameOf(axes);
    report.ranks = grid.shape().RanksWith(axes, grid.place());
    own.all_reduces.push_back(report);
  };
  for (Axes axes : {Axis::kReplica | Axis::kShard, Axis::kShard | Axis::kTower}) {
    measure(grid.shape().Effective(axes));
  }
  return GatherReports(own, world);
}

std::vector<PeerAccess> PeerAccessOf(const std::vector<DeviceReport>& reports) {
  std::vector<PeerAccess> hosts;
  for (const DeviceReport& report : reports) {
    auto host = std::find_if(hosts.begin(), hosts.end(),
                             [&](const PeerAccess& known) { return known.host == report.host; });
    if (host == hosts.end()) {
      hosts.push_back({.host = report.host, .uuids = {}, .pci_bus_ids = {}, .reaches = {}});
      host = hosts.end() - 1;
    }
    std::vector<size_t> places;  // of the devices that this rank sees
    for (const CudaDevice& device : report.visible) {
      const auto known = std::find(host->uuids.begin(), host->uuids.end(), device.uuid);
      places.push_back(static_cast<size_t>(known - host->uuids.begin()));
      if (known != host->uuids.end()) continue;
      host->uuids.push_back(device.uuid);
      host->pci_bus_ids.push_back(device.pci_bus_id);
    }
    host->reaches.resize(host->uuids.size());
    for (auto& row : host->reaches) row.resize(host->uuids.size());
    for (size_t i = 0; i < report.visible.size(); ++i) {
      const std::vector<bool>& reaches = report.visible[i].reaches;
      for (size_t j = 0; j < std::min(reaches.size(), places.size()); ++j) {
        host->reaches[places[i]][places[j]] = reaches[j];
      }
    }
  }
  return hosts;
}

std::vector<std::string> DeviceComplaints(const std::vector<DeviceReport>& reports) {
  std::vector<std::string> complaints;
  for (const DeviceReport& report : reports) {
    if (report.far_processors) {
      complaints.push_back(fmt::format(
          "rank {}: its device belongs to NUMA node {} of {}, its processors ({}) to others; give "
          "mpirun --bind-to none, or use launch/convoyrun",
          report.rank, report.device.numa_node, report.host, report.processors));
    }
  }
  const auto other = std::find_if(reports.begin(), reports.end(), [&](const DeviceReport& report) {
    return report.driver != reports[0].driver;
  });
  if (other != reports.end()) {
    complaints.push_back(fmt::format(
        "the driver of {} is for CUDA {}, that of {} for {}: install one version on every host",
        reports[0].host, NameOfCudaVersion(reports[0].driver), other->host,
        NameOfCudaVersion(other->driver)));
  }
  for (const DeviceReport& report : reports) {
    for (const AllReduceReport& group : report.all_reduces) {
      if (group.ranks[0] != report.rank) continue;  // the first of a group speaks for it
      std::vector<const DeviceReport*> of_group;
      for (const int rank : group.ranks) of_group.push_back(&reports[static_cast<size_t>(rank)]);
      const std::string complaint = ComplaintAbout(group, of_group);
      if (!complaint.empty()) complaints.push_back(complaint);
    }
  }
  return complaints;
}

void PrintDevices(const std::vector<DeviceReport>& reports, const std::string& carrier) {
  fmt::print("{:>5}  {:<20}{:>6}{:>8}  {:<24}{:<14}{:<42}{:>5}{:>22}\n", "rank", "host", "local",
             "device", "name", "PCI bus id", "UUID", "NUMA", "free of memory");
  for (const DeviceReport& report : reports) {
    const CudaDevice& device = report.device;
    fmt::print("{:>5}  {:<20}{:>6}{:>8}  {:<24}{:<14}{:<42}{:>5}{:>22}\n", report.rank, report.host,
               report.local_rank, report.ordinal, device.name, device.pci_bus_id, device.uuid,
               device.numa_node < 0 ? "?" : std::to_string(device.numa_node),
               fmt::format("{} of {}", FormatBytes(static_cast<double>(report.free_bytes)),
                           FormatBytes(static_cast<double>(device.memory_bytes))));
  }
  fmt::print("\n{:>5}  {:>8}{:>9}{:>9}{:>12}{:>12}  {}\n", "rank", "driver", "runtime", "NCCL",
             "to device", "to host", "backend");
  for (const DeviceReport& report : reports) {
    fmt::print("{:>5}  {:>8}{:>9}{:>9}{:>7.2f} GB/s{:>7.2f} GB/s  {}\n", report.rank,
               NameOfCudaVersion(report.driver), NameOfCudaVersion(report.runtime),
               NameOfNcclVersion(report.nccl), report.to_device_gb_per_s, report.to_host_gb_per_s,
               report.backend);
  }
  for (const PeerAccess& access : PeerAccessOf(reports)) {
    fmt::print("\n{}: which device reads the memory of which directly\n", access.host);
    for (size_t reader = 0; reader < access.uuids.size(); ++reader) {
      fmt::print("  {:<14}", access.pci_bus_ids[reader]);
      for (size_t read = 0; read < access.uuids.size(); ++read) {
        const std::optional<bool> reaches = access.reaches[reader][read];
        fmt::print("{:>5}", reader == read ? "-" : !reaches ? "?" : *reaches ? "yes" : "no");
      }
      fmt::print("\n");
    }
  }
  fmt::print("\ncollectives of device memory: {}\n", carrier);
  for (const DeviceReport& report : reports) {
    for (const AllReduceReport& group : report.all_reduces) {
      if (group.ranks[0] != report.rank) continue;
      fmt::print("all-reduce of {} on ranks {} ({}): {:.2f} GB/s\n",
                 FormatBytes(static_cast<double>(kMeasuredBytes)), fmt::join(group.ranks, ", "),
                 group.group, group.gb_per_s);
    }
  }
}

std::string DevicesAsJson(const std::vector<DeviceReport>& reports, const std::string& carrier) {
  Json json = {{"collectives", carrier}, {"ranks", reports}};
  for (const PeerAccess& access : PeerAccessOf(reports)) {
    Json rows = Json::array();
    for (const auto& row : access.reaches) {
      Json cells = Json::array();
      for (const std::optional<bool> cell : row) cells.push_back(cell ? Json(*cell) : Json());
      rows.push_back(cells);
    }
    json["peer_access"].push_back({{"host", access.host},
                                   {"uuids", access.uuids},
                                   {"pci_bus_ids", access.pci_bus_ids},
                                   {"reaches", rows}});
  }
  return JsonLine(json);
}

}  // namespace convoy
