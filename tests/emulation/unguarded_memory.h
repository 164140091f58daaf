// tests/emulation/unguarded_memory.h - device memory that is freed as ncclMemFree frees it.
#pragma once

#include <cstdint>

#include "core/device/memory.h"

namespace convoy::cuda {

// Zeroed. Unlike AllocateDevice's, it does not wait for the device when it is freed. What still
// uses it then finds bytes of 0xFF, NaN in every type, as it would find another's numbers on a
// device.
Buffer AllocateUnguarded(int device, int64_t bytes);

}  // namespace convoy::cuda
