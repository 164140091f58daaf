#include "tests/cuda/described_devices.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "core/error.h"

namespace convoy::cuda {
namespace {

struct DescribedDevice {
  const char* name;
  int compute_capability;  // 900 for 9.0
  int multiprocessors;
  int shared_memory;  // bytes of a block, at most
  int64_t memory_bytes, cache_bytes;
  int clock_khz, memory_clock_khz;
};

constexpr DescribedDevice kDevices[] = {
    {"A100", 800, 108, 166912, 85899345920, 41943040, 1410000, 1593000},
    {"H200", 900, 132, 232448, 150754820096, 62914560, 1980000, 3201000},
    {"B200", 1000, 148, 232448, 191000000000, 132644864, 1965000, 3996000},
};

}  // namespace

std::string PropertiesOf(const std::string& device) {
  const auto* found = std::find_if(std::begin(kDevices), std::end(kDevices),
                                   [&](const auto& other) { return other.name == device; });
  CONVOY_CHECK(found != std::end(kDevices), "{} is not described here", device);
  // The lower half is the same for all of these capabilities.
  return fmt::format(
      R"({{"deviceName": "{}", "deviceVer": {}, "multiProcessorCount": {},)"
      R"( "maxSharedMemoryPerBlockOptin": {}, "totalGlobalMem": {}, "l2CacheSize": {},)"
      R"( "smClockRateKHz": {}, "memClockRateKHz": {},)"
      R"( "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0, "isTccDriver": 0,)"
      R"( "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],)"
      R"( "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "maxCtasPerSM": 32,)"
      R"( "regsPerBlock": 65536, "maxRegistersPerSM": 65536, "warpSize": 32,)"
      R"( "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,)"
      R"( "supportCoopLaunch": 1}})",
      found->name, found->compute_capability, found->multiprocessors, found->shared_memory,
      found->memory_bytes, found->cache_bytes, found->clock_khz, found->memory_clock_khz);
}

}  // namespace convoy::cuda
