// core/cuda/runtime.h - CUDA devices, streams, memory and recorded work, without CUDA's headers.
//
// What is made from here lives in the CUDA module (core/device/cuda_module.h); runtime.cc
// implements it with the CUDA runtime, tests/emulation with threads of the host.
//
// A failed call throws an Error (kDevice) that names the call, the device and the host. What is
// given back in a destructor ignores failures: the call that failed first has been reported.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/device/memory.h"
#include "core/device/stream.h"

namespace convoy::cuda {

// Returns the number of visible devices (CUDA_VISIBLE_DEVICES). Throws if there is no driver, one
// that is too old, or no device.
int DeviceCount();

struct DeviceFacts {
  std::string name;            // "NVIDIA H200"
  std::string uuid;            // "GPU-4a5b..."; tells devices of a host apart
  std::string pci_bus_id;      // "0000:1b:00.0"
  int compute_capability = 0;  // 90
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
};
DeviceFacts FactsOf(int device);

// As CUDA counts: 13000 is 13.0; a driver of 0 means that there is none. Never throws.
struct Versions {
  int driver = 0, runtime = 0;
};
Versions RuntimeVersions();

// Returns free and total bytes.
struct MemoryState {
  int64_t free_bytes = 0, total_bytes = 0;
};
MemoryState MemoryOf(int device);

// Work on a stream of high priority goes before what waits on others of the device.
enum class Priority { kNormal, kHigh };
std::unique_ptr<Stream> MakeStream(int device, Priority priority = Priority::kNormal);

// Allocates device memory, zeroed. Throws with asked, free and total bytes.
Buffer AllocateDevice(int device, int64_t bytes);
// Allocates page-locked host memory, zeroed: copies to and from it run at full speed and
// asynchronously.
Buffer AllocatePinned(int device, int64_t bytes);
// Queues zeros.
void SetZero(Stream& stream, void* data, int64_t bytes);

// Returns whether device `from` can read the memory of device `to` directly.
bool CanAccessPeer(int from, int to);

// Work that was queued on a stream once and can be queued again as a whole: a CUDA graph.
class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  virtual void Queue(Stream& stream) = 0;
};
// Calls `queue_work`, which queues on `stream`, and on streams that it makes wait for `stream` and
// `stream` for them in the end; nothing runs. It must not allocate, wait for the device, or throw.
std::unique_ptr<RecordedWork> Record(Stream& stream, const std::function<void()>& queue_work);
// Returns whether what is queued on `stream` is being recorded.
bool IsRecording(Stream& stream);

}  // namespace convoy::cuda
