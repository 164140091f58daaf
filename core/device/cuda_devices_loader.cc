#include <algorithm>
#include <cctype>
#include <fstream>

#include "core/device/cuda_devices.h"

namespace convoy {
namespace {

int NumaNodeOf(std::string pci_bus_id) {
  std::transform(pci_bus_id.begin(), pci_bus_id.end(), pci_bus_id.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::ifstream file("/sys/bus/pci/devices/" + pci_bus_id + "/numa_node");
  int node = -1;
  file >> node;
  return file ? node : -1;
}

}  // namespace

CudaInstallation FindCudaDevices() {
  CudaInstallation found;
  CONVOY_FROM_CUDA_MODULE(convoy_find_cuda_devices)(found);
  for (CudaDevice& device : found.devices) device.numa_node = NumaNodeOf(device.pci_bus_id);
  return found;
}

}  // namespace convoy
