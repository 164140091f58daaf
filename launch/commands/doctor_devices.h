// launch/commands/doctor_devices.h - what doctor finds out about the CUDA devices of the ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/device/cuda_devices.h"
#include "trainer/ranks/compute_resources.h"

namespace convoy {

// An all-reduce of device memory over one group of the grid, as one of its ranks saw it.
struct AllReduceReport {
  std::string group;       // "replicas" or "towers"
  std::vector<int> ranks;  // of the world, in order
  bool by_nccl = false;    // otherwise by way of host memory
  double gb_per_s = 0;     // bytes of the buffer over the best time
  int64_t elements = 0, wrong_elements = 0;
};

// What one rank tells of its device.
struct DeviceReport {
  int rank = 0;
  std::string host;
  int local_rank = 0;
  int ordinal = 0;  // among the devices that the rank sees
  CudaDevice device;
  int64_t free_bytes = 0;                 // while Convoy's libraries are loaded there
  std::vector<CudaDevice> visible;        // by ordinal
  int driver = 0, runtime = 0, nccl = 0;  // as CUDA and NCCL count
  std::string backend;                    // Backend::Describe()
  std::string processors;                 // that the rank may run on
  bool far_processors = false;            // none of them belongs to the device's NUMA node
  // Copies from and to pinned memory, while all ranks copy.
  double to_device_gb_per_s = 0, to_host_gb_per_s = 0;
  std::vector<AllReduceReport> all_reduces;  // of groups with several ranks
};

// Measures, and gives what every rank found, by rank, on each of them. Collective; for CUDA alone.
std::vector<DeviceReport> ExamineDevices(const ComputeResources& resources, World& world);

// The parts of it that measure. `group` moves memory of the backend's device; collective over it.
struct CopySpeed {
  double to_device_gb_per_s = 0, to_host_gb_per_s = 0;
};
CopySpeed MeasureCopies(Backend& backend, Stream& stream, int64_t bytes);
AllReduceReport MeasureAllReduce(Backend& backend, Stream& stream, Communicator& group,
                                 const Allocator& allocate, int64_t bytes);

// Which device of a host reads the memory of which other directly.
struct PeerAccess {
  std::string host;
  std::vector<std::string> uuids, pci_bus_ids;  // of the devices that any rank sees there
  // [reader][read]; nothing where no rank sees both.
  std::vector<std::vector<std::optional<bool>>> reaches;
};
std::vector<PeerAccess> PeerAccessOf(const std::vector<DeviceReport>& reports);

// One line per thing that is wrong, with what to do.
std::vector<std::string> DeviceComplaints(const std::vector<DeviceReport>& reports);

// For people, on standard output. `carrier` says what carries the collectives, and why.
void PrintDevices(const std::vector<DeviceReport>& reports, const std::string& carrier);
// The same as the text of a JSON object.
std::string DevicesAsJson(const std::vector<DeviceReport>& reports, const std::string& carrier);

}  // namespace convoy
