#include "trainer/ranks/agreement.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace convoy {
namespace {

TEST(RunTogether, EveryRankGetsTheFaultOfTheLowestThatFailed) {
  std::atomic<int> told{0};
  RunAsThreads(4, {}, [&](World& world) {
    RunTogether(world, [] {});
    try {
      RunTogether(world, [&] {
        if (world.rank() >= 2) {
          throw Error(ExitCode::kData, fmt::format("broken on {}", world.rank()), "mend it");
        }
      });
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kData);
      EXPECT_STREQ(error.what(), "broken on 2. Hint: mend it");
      EXPECT_EQ(error.origin(), 2);
      ++told;
    }
  });
  EXPECT_EQ(told, 4);
}

// The ranks without work hear from the one at work meanwhile: it is at work until they have, three
// times.
TEST(RunTogetherWithoutDeadline, RanksExchangePulsesWhileOneIsAtWork) {
  std::atomic<int> done{0};
  RunAsThreads(3, {.deadline_s = 0}, [&](World& world) {
    std::atomic<int> pulses{0};
    RunTogetherWithoutDeadline(
        world, "at work",
        [&] {
          while (world.rank() == 1 && pulses < 3) std::this_thread::yield();
        },
        [&] { ++pulses; });
    EXPECT_GE(pulses, 3);
    ++done;
  });
  EXPECT_EQ(done, 3);
}

TEST(RunTogetherWithoutDeadline, EveryRankGetsTheFaultOfTheLowestThatFailed) {
  std::atomic<int> told{0};
  RunAsThreads(3, {}, [&](World& world) {
    try {
      RunTogetherWithoutDeadline(world, "at work", [&] {
        if (world.rank() > 0) {
          throw Error(ExitCode::kDevice, fmt::format("no kernel on {}", world.rank()));
        }
      });
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
      EXPECT_EQ(error.message(), "no kernel on 1");
      ++told;
    }
  });
  EXPECT_EQ(told, 3);
}

}  // namespace
}  // namespace convoy
