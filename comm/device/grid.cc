#include "comm/grid.h"

#include "comm/communicator.h"
#include "comm/device/device_groups.h"
#include "comm/device/nccl.h"
#include "comm/device/staged.h"
#include "comm/device/watchdog.h"
#include "comm/grid_shape.h"
#include "comm/host/rank_group.h"
#include "comm/world.h"

namespace convoy {

ProcessGrid::ProcessGrid(World& world, const GridShape& shape, const GroupOptions& options)
    : shape_(shape) {
  CONVOY_CHECK(shape.replicas >= 1 && shape.towers >= 1, "{} replicas of {} towers", shape.replicas,
               shape.towers);
  CONVOY_CHECK(world.size() == shape.ranks(), "{} replicas of {} towers in a world of {} ranks",
               shape.replicas, shape.towers, world.size());
  replica_ = world.rank() / shape.towers;
  tower_ = world.rank() % shape.towers;
  const bool is_cpu = options.device.kind == DeviceKind::kCpu;
  const std::string suffix = is_cpu ? "" : " (host)";
  host_replicas_ = world.Split("replicas" + suffix, tower_, replica_);
  host_towers_ = world.Split("towers" + suffix, replica_, tower_);
  if (is_cpu) {
    description_ = "host memory";
  } else {
    MakeDeviceGroups(world, options);
  }
}

ProcessGrid::~ProcessGrid() = default;

void ProcessGrid::GiveUp(const std::string& why) {
  for (const auto* group : {&device_replicas_, &device_towers_, &host_replicas_, &host_towers_}) {
    if (*group) (*group)->GiveUp(why);
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
  const auto make_group = [&](const std::string& name, int colour, Communicator& host) {
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
    return MakeStaged(world.Split(name, colour, host.rank()),
                      {.name = name,
                       .make_stream = options.make_stream,
                       .allocate_pinned = options.allocate_pinned});
  };
  device_replicas_ = make_group("replicas", tower_, *host_replicas_);
  device_towers_ = make_group("towers", replica_, *host_towers_);
}

}  // namespace convoy
