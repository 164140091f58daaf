// core/device/device.h - where memory lies and work runs.
#pragma once

#include <string>

namespace convoy {

enum class DeviceKind { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;  // the CUDA ordinal among the visible devices; 0 for the CPU

  bool operator==(const Device&) const = default;
};

inline std::string ToString(const Device& device) {
  return device.kind == DeviceKind::kCpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace convoy
