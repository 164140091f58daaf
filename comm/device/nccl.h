// comm/device/nccl.h - collectives of device memory by NCCL, which the CUDA module holds.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/device/nccl_group.h"
#include "comm/device/watchdog.h"

namespace convoy {

struct NcclOptions {
  std::string name;
  int device = 0;
  double deadline_s = 600;        // for connecting; what comes later is the watchdog's
  std::function<int64_t()> step;  // that a collective belongs to; called by its caller
};

// Collectives are queued on a stream of the communicator's own, after the caller's work;
// Request::Wait() makes a stream wait for them and never the host, but for a host stream. They can
// be recorded. A peer that does not come ends the process (`watchdog`), as nothing on the host
// waits for it; barriers go through `host`, which has the same ranks. Both outlive the
// communicator.
//
// Destroyed, it waits for its work and its peers; destroyed by an exception, or given up, it
// aborts.
//
// Collective over `host`. Throws (kPeer) if not every rank comes in time, (kUsage) if NCCL
// refuses the ranks or their devices.
std::unique_ptr<Communicator> MakeNccl(Communicator& host, Watchdog& watchdog,
                                       const NcclOptions& options);

// Returns the same on top of `group`, which is connected already: for tests without a device.
std::unique_ptr<Communicator> MakeNcclOf(std::shared_ptr<NcclGroup> group, Communicator& host,
                                         Watchdog& watchdog, const NcclOptions& options);

}  // namespace convoy
