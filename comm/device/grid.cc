#include "comm/grid.h"

#include <algorithm>

#include "comm/communicator.h"
#include "comm/device/device_groups.h"
#include "comm/device/nccl.h"
#include "comm/device/staged.h"
#include "comm/device/watchdog.h"
#include "comm/grid_shape.h"
#include "comm/host/rank_group.h"
#include "comm/world.h"

namespace convoy {
namespace {

// The sets of axes along which something is exchanged: gradients and statistics of a part of the
// network that replicas, or replicas and shards, hold alike; activations and checkpoints of the
// ranks of a replica; what is known of the rows of shards; activations and crops of towers.
std::vector<Axes> UsedAxes(const GridShape& shape) {
  std::vector<Axes> used;
  for (Axes axes : {Axes(Axis::kReplica), Axis::kReplica | Axis::kShard,
                    Axis::kShard | Axis::kTower, Axes(Axis::kShard), Axes(Axis::kTower)}) {
    const Axes effective = shape.Effective(axes);
    if (std::find(used.begin(), used.end(), effective) == used.end()) used.push_back(effective);
  }
  return used;
}

}  // namespace

ProcessGrid::ProcessGrid(World& world, const GridShape& shape, const GroupOptions& options)
    : world_(world), options_(options), shape_(shape) {
  CONVOY_CHECK(shape.replicas >= 1 && shape.shards >= 1 && shape.towers >= 1,
               "{} replicas of {} shards of {} towers", shape.replicas, shape.shards, shape.towers);
  CONVOY_CHECK(world.size() == shape.ranks(), "a grid of {} ranks in a world of {}", shape.ranks(),
               world.size());
  place_ = shape.PlaceOf(world.rank());
  const bool is_cpu = options.device.kind == DeviceKind::kCpu;
  for (Axes axes : UsedAxes(shape)) {
    host_groups_.push_back({axes, MakeHostGroup(axes, NameOf(axes) + (is_cpu ? "" : " (host)"))});
  }
  if (is_cpu) {
    description_ = "host memory";
    return;
  }
  const CommunicatorChoice choice = ChooseCommunicator(world, options);
  uses_nccl_ = choice.nccl;
  description_ = choice.reason;
  watchdog_ = std::make_unique<Watchdog>(
      WatchdogOptions{.deadline_s = options.deadline_s,
                      .rank = world.rank(),
                      .host = world.hosts()[static_cast<size_t>(world.rank())],
                      .describe_peers = [&world] { return world.DescribeProgress(); }});
  for (const Group& group : host_groups_) {
    device_groups_.push_back({group.axes, MakeDeviceGroup(group.axes, NameOf(group.axes))});
  }
}

ProcessGrid::~ProcessGrid() = default;

Communicator* ProcessGrid::Find(const std::vector<Group>& groups, Axes axes) const {
  const Axes effective = shape_.Effective(axes);
  for (const Group& group : groups) {
    if (group.axes == effective) return group.communicator.get();
  }
  CONVOY_CHECK(groups.empty(), "there is no group along {}", NameOf(axes));
  return nullptr;
}

Communicator& ProcessGrid::Along(Axes axes) {
  Communicator* of_device = Find(device_groups_, axes);
  return of_device != nullptr ? *of_device : HostAlong(axes);
}

Communicator& ProcessGrid::HostAlong(Axes axes) { return *Find(host_groups_, axes); }

std::vector<ProcessGrid::Traffic> ProcessGrid::CountedTraffic() const {
  std::vector<Traffic> traffic;
  for (const auto* groups : {&statistics_groups_, &device_groups_, &host_groups_}) {
    for (const Group& group : *groups) {
      for (const TrafficRow& row : group.communicator->traffic().rows()) {
        traffic.push_back({group.axes, row});
      }
    }
  }
  return traffic;
}

void ProcessGrid::ResetTraffic() {
  for (const auto* groups : {&statistics_groups_, &device_groups_, &host_groups_}) {
    for (const Group& group : *groups) group.communicator->ResetTraffic();
  }
}

void ProcessGrid::GiveUp(const std::string& why) {
  for (const auto* groups : {&statistics_groups_, &device_groups_, &host_groups_}) {
    for (const Group& group : *groups) group.communicator->GiveUp(why);
  }
}

void ProcessGrid::AddStatisticsGroups() {
  if (!statistics_groups_.empty()) return;
  const bool is_cpu = options_.device.kind == DeviceKind::kCpu;
  for (Axes axes : {Axis::kReplica | Axis::kShard, Axes(Axis::kReplica)}) {
    axes = shape_.Effective(axes);
    const bool is_made = !statistics_groups_.empty() && statistics_groups_.back().axes == axes;
    if (is_made || axes.empty()) continue;
    const std::string name = NameOf(axes) + " (batch norm)";
    statistics_groups_.push_back(
        {axes, is_cpu ? MakeHostGroup(axes, name) : MakeDeviceGroup(axes, name)});
  }
}

Communicator& ProcessGrid::StatisticsAlong(Axes axes) {
  for (const Group& group : statistics_groups_) {
    if (group.axes == shape_.Effective(axes)) return *group.communicator;
  }
  return Along(axes);
}

std::unique_ptr<Communicator> ProcessGrid::MakeHostGroup(Axes axes, const std::string& name) {
  return world_.Split(name, shape_.GroupOf(axes, place_), shape_.RankAlong(axes, place_));
}

std::unique_ptr<Communicator> ProcessGrid::MakeDeviceGroup(Axes axes, const std::string& name) {
  Communicator& host = HostAlong(axes);
  // One rank that asks for NCCL gets it, so that it can be tried if there is only one device.
  const bool tries_nccl = uses_nccl_ && world_.size() == 1;
  if (host.size() == 1 && !tries_nccl) return MakeSelfCommunicator(options_.device);
  if (uses_nccl_) {
    return MakeNccl(host, *watchdog_,
                    {.name = name,
                     .device = options_.device.index,
                     .deadline_s = options_.deadline_s,
                     .step = [this] { return world_.step(); }});
  }
  return MakeStaged(MakeHostGroup(axes, name), {.name = name,
                                                .make_stream = options_.make_stream,
                                                .allocate_pinned = options_.allocate_pinned});
}

}  // namespace convoy
