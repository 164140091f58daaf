// comm/device/nccl_group.h - what comm/device/nccl.cc and the CUDA module's NCCL group know of each
// other, without NCCL's headers.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "comm/collective.h"
#include "comm/device/watchdog.h"
#include "core/device/cuda_module.h"
#include "core/device/memory.h"
#include "core/device/stream.h"

namespace convoy {

// What the ranks of a group find each other by: one of them makes it, all have it.
struct NcclId {
  std::array<std::byte, 128> bytes{};
};

struct NcclGroupOptions {
  std::string name;
  int rank = 0, size = 1;
  int device = 0;
  // How long NCCL may take to connect the ranks, to queue a collective, and to finish; 0: for ever.
  double deadline_s = 600;
};

// One NCCL communicator and its stream of high priority. Its calls are made by one thread; Check()
// and Abort() by any. What NCCL or CUDA refuse is an Error: kDevice, kPeer (the network, another
// rank) or kUsage.
class NcclGroup : public WatchedCommunicator {
 public:
  // Waits for every rank of the group. Call it once, before anything else.
  virtual void Connect(const NcclId& id) = 0;

  struct Queued {
    std::shared_ptr<Event> done;
    bool recorded = false;  // the caller's stream is being recorded: the host cannot wait for it
  };
  // Queues the collective, which is checked and no barrier, after the work of `stream`.
  virtual Queued Queue(Stream& stream, const Collective& collective) = 0;

  // Allocates memory by ncclMemAlloc, zeroed and registered. It may be released after the group.
  virtual Buffer AllocateRegistered(int64_t bytes) = 0;
  // Ends the communicator when its work is done; every rank calls it.
  virtual void Finalise() = 0;
};

}  // namespace convoy

// In the module: NCCL's version as it counts, a new id, and a group, which the caller owns.
CONVOY_CUDA_MODULE_FUNCTION int convoy_nccl_version();
CONVOY_CUDA_MODULE_FUNCTION void convoy_nccl_make_id(convoy::NcclId& id);
CONVOY_CUDA_MODULE_FUNCTION convoy::NcclGroup* convoy_nccl_make_group(
    const convoy::NcclGroupOptions& options);
