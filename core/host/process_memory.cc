#include "core/host/process_memory.h"

#include <fstream>
#include <string>

namespace convoy {

std::optional<int64_t> ProportionalMemory() {
  std::ifstream file("/proc/self/smaps_rollup");
  return ProportionalMemory(file);
}

// The line is "Pss:             1234 kB".
std::optional<int64_t> ProportionalMemory(std::istream& text) {
  for (std::string word; text >> word;) {
    int64_t kibibytes = 0;
    if (word == "Pss:" && text >> kibibytes) return 1024 * kibibytes;
  }
  return {};
}

}  // namespace convoy
