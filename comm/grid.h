// comm/grid.h - which rank stands where, and the groups along the axes: for host memory, and for
// memory of a CUDA device too.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid_shape.h"
#include "core/device/device.h"
#include "core/device/memory.h"
#include "core/device/stream.h"

namespace convoy {

class Watchdog;
class World;

// What carries collectives of device memory.
enum class CommunicatorKind {
  kAuto,  // NCCL wherever it can
  kNccl,
  kMpi  // the world's own, by way of host memory
};

// What the groups of a grid work for.
struct GroupOptions {
  // kCpu: collectives of host memory. kCuda: of this device's memory, the same index or another on
  // every rank.
  Device device;
  // The rest matters for CUDA devices.
  CommunicatorKind communicator = CommunicatorKind::kAuto;
  std::string device_uuid;  // tells the devices of a host apart
  // How the device is reached by way of host memory: streams for copies, made by threads of the
  // groups, and page-locked memory.
  std::function<std::unique_ptr<Stream>()> make_stream;
  Allocator allocate_pinned = AllocateHost;
  // What the device may wait for other ranks, in seconds (comm/device/watchdog.h); 0 is for ever.
  double deadline_s = 600;
};

// Returns what a ProcessGrid of these options uses for device memory, and why.
struct CommunicatorChoice {
  bool nccl = false;   // otherwise by way of host memory
  std::string reason;  // "NCCL 2.28.9: every rank has a device of its own"
};

// Collective over the world: every rank gets the same. Throws (kUsage) on every rank if NCCL is
// asked for and cannot connect these devices, or if ranks have different versions of it.
CommunicatorChoice ChooseCommunicator(World& world, const GroupOptions& options);

// Returns the version of the NCCL library that was loaded, as NCCL counts: 22809 is 2.28.9. Throws
// (kDevice) if the CUDA module cannot be loaded.
int NcclVersion();
// Returns "2.28.9".
std::string NameOfNcclVersion(int version);

// The world outlives it.
class ProcessGrid {
 public:
  // Collective over the world, which has shape.ranks() ranks. Throws (kUsage) if NCCL is asked for
  // and cannot connect them.
  ProcessGrid(World& world, const GridShape& shape, const GroupOptions& options = {});
  ~ProcessGrid();

  const GridShape& shape() const { return shape_; }
  const GridPlace& place() const { return place_; }
  // Returns the group of the ranks that differ from this one only along `axes`; its ranks are in
  // the order of GridShape::RankAlong. For memory of the device. There are groups along the
  // replicas, the replicas and shards, the shards and towers, the shards, and the towers; axes of
  // one rank do not matter.
  Communicator& Along(Axes axes);
  // Makes groups of the same ranks for batch norm's sums, along the replicas, and the replicas and
  // shards: in the groups above they would wait for gradients that were queued before them.
  // Collective over the world; a second call does nothing.
  void AddStatisticsGroups();
  // Returns such a group, or that of Along if there is none. For memory of the device.
  Communicator& StatisticsAlong(Axes axes);
  // Returns the same ranks for host memory: crops, checkpoints, numbers. The same communicator as
  // above if the device is the CPU.
  Communicator& HostAlong(Axes axes);

  // What the groups along one set of axes have carried for one operation.
  struct Traffic {
    Axes axes;
    TrafficRow row;
  };
  // Returns what this rank's groups have carried since the last reset, those of host memory too.
  std::vector<Traffic> CountedTraffic() const;
  void ResetTraffic();

  // Returns what carries the collectives of device memory, and why. One line, the same on every
  // rank.
  const std::string& Describe() const { return description_; }
  // For a StepWatch around waits for the device; null for the CPU.
  Watchdog* watchdog() { return watchdog_.get(); }
  // Gives every group up. For a rank that fails, before it frees memory of the device: that waits
  // for collectives whose peers may never come.
  void GiveUp(const std::string& why);

 private:
  struct Group {
    Axes axes;  // along each of them there is more than one rank
    std::unique_ptr<Communicator> communicator;
  };
  Communicator* Find(const std::vector<Group>& groups, Axes axes) const;
  std::unique_ptr<Communicator> MakeHostGroup(Axes axes, const std::string& name);
  std::unique_ptr<Communicator> MakeDeviceGroup(Axes axes, const std::string& name);

  World& world_;
  const GroupOptions options_;
  bool uses_nccl_ = false;
  GridShape shape_;
  GridPlace place_;
  std::string description_;
  // In this order: groups of the device use the others.
  std::vector<Group> host_groups_;
  std::unique_ptr<Watchdog> watchdog_;
  std::vector<Group> device_groups_;  // none if the device is the CPU
  std::vector<Group> statistics_groups_;
};

}  // namespace convoy
