// bench/stream_limit.h - what the memory of this machine gives, measured in the same run.
#pragma once

#include <cstdint>

namespace convoy {

// Bytes per second that `threads` threads read and write: the best of several passes of
// a[i] = b[i] + c[i] over arrays far larger than any cache. Three accesses per element are counted;
// what the processor reads of a[i] before it writes it is not.
double StreamBytesPerSecond(int threads);

}  // namespace convoy
