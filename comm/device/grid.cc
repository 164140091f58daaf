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
    : shape_(shape) {
  CONVOY_CHECK(shape.replicas >= 1 && shape.shards >= 1 && shape.towers >= 1,
               "{} replicas of {} shards of {} towers", shape.replicas, shape.shards, shape.towers);
  CONVOY_CHECK(world.size() == shape.ranks(), "a grid of {} ranks in a world of {}", shape.ranks(),
               world.size());
  place_ = shape.PlaceOf(world.rank());
  const bool is_cpu = options.device.kind == DeviceKind::kCpu;
  for (Axes axes : UsedAxes(shape)) {
    host_groups_.push_back(
        {axes, world.Split(NameOf(axes) + (is_cpu ? "" : " (host)"), shape.GroupOf(axes, place_),
                           shape.RankAlong(axes, place_))});
  }
  if (is_cpu) {
    description_ = "host memory";
  } else {
    MakeDeviceGroups(world, options);
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
  for (const auto* groups : {&device_groups_, &host_groups_}) {
    for (const Group& group : *groups) {
      for (const TrafficRow& row : group.communicator->traffic().rows()) {
        traffic.push_back({group.axes, row});
      }
    }
  }
  return traffic;
}

void ProcessGrid::ResetTraffic() {
  for (const auto* groups : {&device_groups_, &host_groups_}) {
    for (const Group& group : *groups) group.communicator->ResetTraffic();
  }
}

void ProcessGrid::GiveUp(const std::string& why) {
  for (const auto* groups : {&device_groups_, &host_groups_}) {
    for (const Group& group : *groups) group.communicator->GiveUp(why);
  }
}

void ProcessGrid::MakeDeviceGroups(World& world, const GroupOptions& options) {
  const CommunicatorChoice choice = ChooseCommunicator(world, options);
  description_ = choice.reason;
  watchdog_ = std::make_unique<Watchdog>(
      WatchdogOptions{.deadline_s = options.deadline_s,
                      .rank = world.rank(),
                      .host = world.hosts()[static_cast<size_t>(world.rank())],
                      .describe_peers = [&world] { return world.DescribeProgress(); }});
  for (const Group& group : host_groups_) {
    Communicator& host = *group.communicator;
    const std::string name = NameOf(group.axes);
    const auto make_group = [&]() -> std::unique_ptr<Communicator> {
      // One rank that asks for NCCL gets it, so that it can be tried if there is only one device.
      const bool tries_nccl = choice.nccl && world.size() == 1;
      if (host.size() == 1 && !tries_nccl) return MakeSelfCommunicator(options.device);
      if (choice.nccl) {
        return MakeNccl(host, *watchdog_,
                        {.name = name,
                         .device = options.device.index,
                         .deadline_s = options.deadline_s,
                         .step = [&world] { return world.step(); }});
      }
      return MakeStaged(world.Split(name, shape_.GroupOf(group.axes, place_), host.rank()),
                        {.name = name,
                         .make_stream = options.make_stream,
                         .allocate_pinned = options.allocate_pinned});
    };
    device_groups_.push_back({group.axes, make_group()});
  }
}

}  // namespace convoy
