// comm/device/staged.h - collectives of device memory by way of host memory: for devices that NCCL
// cannot connect, as when two ranks share one.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "core/device/memory.h"
#include "core/device/stream.h"

namespace convoy {

struct StagedOptions {
  std::string name;  // of the group, for tools such as top
  // A stream of the device, for the copies. Called once, by the communicator's own thread.
  std::function<std::unique_ptr<Stream>()> make_stream;
  // Memory that the copies go through: page-locked.
  Allocator allocate_pinned = AllocateHost;
};

// Device memory is copied to pinned memory, `host` runs the collective, and the result is copied
// back, all by one thread in the order of the calls, while the caller goes on. Copies start after
// the work that the caller's stream had at the call. All-reduces and broadcasts go in pieces, whose
// copies overlap with the host's collectives; the bits are those that `host` gives for the whole.
//
// Request::Wait() blocks the host until the host's part is done, and makes the stream wait for the
// copy back; Done() says whether the host's part is. A failure of `host` is thrown as it is, and
// ends every later collective; one of the device too.
std::unique_ptr<Communicator> MakeStaged(std::unique_ptr<Communicator> host,
                                         const StagedOptions& options);

}  // namespace convoy
