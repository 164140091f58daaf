// core/device/cuda_devices.h - the CUDA devices that this process sees, through the CUDA module.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/device/cuda_module.h"

namespace convoy {

struct CudaDevice {
  std::string name;            // "NVIDIA H200"
  std::string uuid;            // tells the devices of a host apart, however they are numbered
  std::string pci_bus_id;      // "0000:1b:00.0"
  int numa_node = -1;          // of the host, -1 if it is not known
  int compute_capability = 0;  // 90
  int64_t memory_bytes = 0;
  std::vector<bool> reaches;  // whether it can read the memory of each visible device directly
};

struct CudaInstallation {
  int driver = 0, runtime = 0;      // as CUDA counts: 13000 is 13.0
  std::vector<CudaDevice> devices;  // by ordinal; not empty
};

// Throws (kDevice) an Error that says why no device can be used.
CudaInstallation FindCudaDevices();

}  // namespace convoy

// In the module: fills in all but the NUMA nodes.
CONVOY_CUDA_MODULE_FUNCTION void convoy_find_cuda_devices(convoy::CudaInstallation& found);
