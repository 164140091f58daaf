#include "core/host/process_memory.h"

#include <gtest/gtest.h>

#include <sstream>

#include "core/device/memory.h"

namespace convoy {
namespace {

std::optional<int64_t> Parsed(const std::string& text) {
  std::istringstream stream(text);
  return ProportionalMemory(stream);
}

TEST(ProcessMemory, IsTheProportionalPart) {
  EXPECT_EQ(Parsed("00400000-7fff0000 ---p 00000000 00:00 0    [rollup]\n"
                   "Rss:             2000 kB\nPss:             1500 kB\nPss_Dirty:        7 kB\n"),
            1500 * 1024);
  EXPECT_FALSE(Parsed("Rss:  2000 kB\nPss_Anon: 7 kB\n"));
  EXPECT_FALSE(Parsed("Pss:  many\n"));
  EXPECT_FALSE(Parsed(""));
}

TEST(ProcessMemory, GrowsByWhatIsAllocated) {
  const std::optional<int64_t> before = ProportionalMemory();
  if (!before) GTEST_SKIP() << "this system has no smaps_rollup";
  constexpr int64_t kBytes = 256 << 20;
  const Buffer buffer = AllocateHost(kBytes);
  EXPECT_GT(*ProportionalMemory() - *before, kBytes * 9 / 10);
}

}  // namespace
}  // namespace convoy
