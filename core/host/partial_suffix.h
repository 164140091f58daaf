// core/host/partial_suffix.h - names of temporary files that no other process uses.
#pragma once

#include <string>

namespace convoy {

// A suffix for the temporary file of an AtomicFile, which no other process, of this host or
// another, and no other call gives. For files that several processes may write at the same time:
// whoever commits last has it, and it is always one's alone.
std::string UniquePartialSuffix();

}  // namespace convoy
