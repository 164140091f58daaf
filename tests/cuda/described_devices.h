// tests/cuda/described_devices.h - devices as cuDNN describes them, for what it can tell without
// one.
#pragma once

#include <string>

namespace convoy::cuda {

// Returns the JSON of cuDNN's device property descriptor for an "A100", "H200" or "B200", of
// NVIDIA's data sheets and of what the CUDA programming guide lists for their compute capabilities.
std::string PropertiesOf(const std::string& device);

}  // namespace convoy::cuda
