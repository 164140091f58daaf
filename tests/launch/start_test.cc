#include "launch/start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

using testing::HasSubstr;

constexpr char kProgram[] =
    "version = 0.1.0\nbuild = 0123456789abcdef\nMPI library = Open MPI 4.1.4\n";
constexpr char kCommand[] = "command = convoy train\nlr = 0.01\n";

// What each of three ranks is told, if rank 1 was started as `odd` and the others alike.
std::vector<std::string> WhatRanksAreTold(const StartedAs& odd) {
  std::vector<std::string> told(3);
  RunAsThreads(3, {}, [&](World& world) {
    try {
      RequireSameStart(
          world, world.rank() == 1 ? odd : StartedAs{.program = kProgram, .command = kCommand});
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      told[static_cast<size_t>(world.rank())] = error.message();
    }
  });
  EXPECT_EQ(told[0], told[1]);
  EXPECT_EQ(told[0], told[2]);
  return told;
}

TEST(RequireSameStart, TakesRanksThatWereStartedAlike) {
  EXPECT_EQ(WhatRanksAreTold({.program = kProgram, .command = kCommand})[0], "");
}

TEST(RequireSameStart, NamesARankOfAnotherBuildVersionOrMpi) {
  const std::string other =
      "version = 0.2.0\nbuild = fedcba9876543210\nMPI library = Open MPI 5.0.3\n";
  EXPECT_THAT(WhatRanksAreTold({.program = other, .command = kCommand})[0],
              testing::AllOf(HasSubstr("different programs: rank 1 ("),
                             HasSubstr("version 0.2.0 (rank 0: 0.1.0)"),
                             HasSubstr("build fedcba9876543210 (rank 0: 0123456789abcdef)"),
                             HasSubstr("MPI library Open MPI 5.0.3 (rank 0: Open MPI 4.1.4)")));
}

TEST(RequireSameStart, NamesARankWithOtherSettingsOrAnotherCommand) {
  EXPECT_THAT(
      WhatRanksAreTold({.program = kProgram, .command = "command = convoy train\nlr = 1"})[0],
      testing::AllOf(HasSubstr("other settings than rank 0: rank 1 ("),
                     HasSubstr("lr 1 (rank 0: 0.01)")));
  EXPECT_THAT(WhatRanksAreTold({.program = kProgram, .command = "command = convoy eval\n"})[0],
              HasSubstr("command convoy eval (rank 0: convoy train)"));
}

TEST(RequireSameStart, NamesTheRankWhoseCommandLineIsWrong) {
  const Error fault(ExitCode::kUsage, "there is no option --lrr", "did you mean --lr?");
  EXPECT_THAT(WhatRanksAreTold({.program = kProgram, .command = "", .fault = fault})[0],
              testing::MatchesRegex("rank 1 \\(.*\\): there is no option --lrr"));
}

// An older program does not know every option.
TEST(RequireSameStart, NamesTheOtherProgramBeforeItsFault) {
  const Error fault(ExitCode::kUsage, "there is no option --new");
  EXPECT_THAT(WhatRanksAreTold({.program = "version = 0.0.9\n", .command = "", .fault = fault})[0],
              HasSubstr("version 0.0.9"));
}

TEST(RequireSameStart, AFaultOfAllRanksIsNoRanks) {
  std::atomic<int> told{0};
  RunAsThreads(3, {}, [&](World& world) {
    try {
      RequireSameStart(world, {.program = kProgram,
                               .command = "",
                               .fault = Error(ExitCode::kUsage, "there is no option --lrr")});
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.message(), "there is no option --lrr");
      ++told;
    }
  });
  EXPECT_EQ(told, 3);
}

TEST(DescribeProgram, NamesVersionBuildAndMpi) {
  const std::string text = DescribeProgram(*MakeSelfWorld());
  EXPECT_THAT(text, testing::ContainsRegex("version = [0-9.]+\nbuild = [0-9a-f]{16}\n"));
  EXPECT_EQ(text, DescribeProgram(*MakeSelfWorld()));
}

}  // namespace
}  // namespace convoy
