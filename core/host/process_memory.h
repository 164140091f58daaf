// core/host/process_memory.h - how much memory this process uses.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>

namespace convoy {

// Returns the bytes that /proc/self/smaps_rollup calls Pss: what the process has in memory, of what
// it shares with n others only one part of n + 1. Nothing if the system does not say.
std::optional<int64_t> ProportionalMemory();
// Returns the same of a text in the form of that file.
std::optional<int64_t> ProportionalMemory(std::istream& text);

}  // namespace convoy
