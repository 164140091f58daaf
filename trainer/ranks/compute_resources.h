// trainer/ranks/compute_resources.h - what a rank computes and communicates with.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/grid_shape.h"
#include "comm/world.h"
#include "core/device/cuda_devices.h"
#include "core/host/log.h"
#include "core/host/processor_quota.h"
#include "layers/backend.h"
#include "trainer/ranks/kernel_cache.h"
#include "trainer/run_config.h"

namespace convoy {

// Where this rank computes. All ranks agree on the kind.
struct ChosenDevice {
  BackendKind kind = BackendKind::kCpu;  // not kAuto
  int index = 0;                         // kCuda: the ordinal among the visible devices
  CudaDevice cuda;                       // kCuda
  std::string why_not_cuda;              // if kAuto did not take it
};

// Collective over the world. Ranks of a host take its devices in order. kAuto takes CUDA if
// every rank finds a device, else the CPU for all, and says why. Throws on every rank: kDevice
// if CUDA was asked for and a rank has none, kUsage if two ranks would share a device without
// config.share_device.
ChosenDevice ChooseDevice(const ComputeConfig& config, World& world, Log& log);

// Throws (kUsage) unless all ranks have the same versions of CUDA and its libraries: their kernels
// would round differently. `hosts` and `libraries` (Backend::Libraries() and NCCL) by rank.
void RequireSameLibraries(const std::vector<std::string>& hosts,
                          const std::vector<std::string>& libraries);

// Destroyed in the order that they need: groups, stream, backend. A step that was recorded with a
// group's collectives is destroyed before the group, which would wait for it otherwise.
struct ComputeResources {
  World* world = nullptr;  // of the ranks; outlives the resources
  ChosenDevice device;
  std::shared_ptr<Backend> backend;  // shared with the allocators that are made of it
  std::unique_ptr<Stream> stream;
  std::unique_ptr<ProcessGrid> grid;
  KernelCache kernel_cache;  // of rank 0; the others keep nothing

  // What the log says of them: the backend, and how its collectives travel.
  std::string Describe() const;
};

// Collective over the world. Throws (kUsage, kDevice) on every rank. On CUDA, binds this process to
// the NUMA node of its device first, and has the backend use the kernels of rank 0's cache.
ComputeResources MakeComputeResources(const ComputeConfig& config, World& world, Log& log);

// Memory that collectives of `group` move: on the CPU, what the ranks of a host reach in each
// other; on a device, what the group moves with the least work. What is given outlives it.
Allocator CollectiveMemoryOf(const ComputeResources& resources, Communicator& group);

// Memory on the host from which the device copies fast (pinned, for a device). Any thread may call
// it, for as long as it likes: it shares the backend.
Allocator StagingMemoryOf(const ComputeResources& resources);

// Every rank's backend uses `choices` of rank `root`. Collective over the world.
void ShareKernelChoices(const ComputeResources& resources, const KernelChoices& choices, int root);

// Calls `compile`, which compiles networks on the backend of `resources`, on every rank, so that
// all choose the same kernels: the ranks of the first replica one after another, each told what
// those before it chose, then all others. The cache keeps what was chosen. However long that takes,
// it is not counted against the deadline. Returns what was measured on this rank, and the log says
// how long it took. Collective over the world; `compile` is not.
std::vector<KernelMeasurement> CompileTogether(ComputeResources& resources, Log& log,
                                               const std::function<void()>& compile);

// Threads of the layers per rank: what was asked, else this rank's share of the processors.
int ThreadsPerRank(const ComputeConfig& config, const World& world);
// That share, at least 1: of `processors` with the ranks that may run on exactly the same ones
// (`sharers`, this one included), and of the container's quota with all ranks of the host.
int ShareOfProcessors(int processors, int sharers, const std::optional<ProcessorQuota>& quota,
                      int ranks_of_host);
// Returns replicas, shards and towers; replicas filled in from the world's size. Throws (kUsage)
// when they do not multiply to it.
GridShape GridOf(const ComputeConfig& config, const World& world);

}  // namespace convoy
