#include "core/cuda/runtime.h"
#include "core/device/cuda_devices.h"

// Calls nothing that would make a context: every rank would take memory of every device.
CONVOY_CUDA_MODULE_FUNCTION void convoy_find_cuda_devices(convoy::CudaInstallation& found) {
  namespace cuda = convoy::cuda;
  const int count = cuda::DeviceCount();
  const cuda::Versions versions = cuda::RuntimeVersions();
  found = {.driver = versions.driver, .runtime = versions.runtime, .devices = {}};
  for (int i = 0; i < count; ++i) {
    const cuda::DeviceFacts facts = cuda::FactsOf(i);
    convoy::CudaDevice device{.name = facts.name,
                              .uuid = facts.uuid,
                              .pci_bus_id = facts.pci_bus_id,
                              .compute_capability = facts.compute_capability,
                              .memory_bytes = facts.memory_bytes,
                              .reaches = {}};
    for (int j = 0; j < count; ++j) device.reaches.push_back(i == j || cuda::CanAccessPeer(i, j));
    found.devices.push_back(std::move(device));
  }
}
