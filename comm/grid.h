// comm/grid.h - which rank is which replica and tower, and their groups: for host memory, and for
// memory of a CUDA device too.
#pragma once

#include <functional>
#include <memory>
#include <string>

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
  int replica() const { return replica_; }
  int tower() const { return tower_; }
  // Returns the group of this tower in every replica: it sums gradients and statistics. Rank in it
  // = replica(). Memory of the device.
  Communicator& replicas() { return device_replicas_ ? *device_replicas_ : *host_replicas_; }
  // Returns the towers of this replica: they exchange activations. Rank in it = tower(). Memory of
  // the device.
  Communicator& towers() { return device_towers_ ? *device_towers_ : *host_towers_; }
  // Returns the same ranks for host memory: crops, checkpoints, numbers. The same communicators as
  // above if the device is the CPU.
  Communicator& host_replicas() { return *host_replicas_; }
  Communicator& host_towers() { return *host_towers_; }

  // Returns what carries the collectives of device memory, and why. One line, the same on every
  // rank.
  const std::string& Describe() const { return description_; }
  // For a StepWatch around waits for the device; null for the CPU.
  Watchdog* watchdog() { return watchdog_.get(); }
  // Gives every group up. For a rank that fails, before it frees memory of the device: that waits
  // for collectives whose peers may never come.
  void GiveUp(const std::string& why);

 private:
  void MakeDeviceGroups(World& world, const GroupOptions& options);

  GridShape shape_;
  int replica_ = 0, tower_ = 0;
  std::string description_;
  // In this order: groups of the device use the others.
  std::unique_ptr<Communicator> host_replicas_, host_towers_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Communicator> device_replicas_, device_towers_;
};

}  // namespace convoy
