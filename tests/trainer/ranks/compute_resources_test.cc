#include "trainer/ranks/compute_resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::vector<std::string> kHosts{"node1", "node1", "node2"};

constexpr char kLibraries[] = "CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1, NCCL 2.28.9";

TEST(RequireSameLibraries, TakesTheSameVersions) {
  RequireSameLibraries(kHosts, {kLibraries, kLibraries, kLibraries});
}

TEST(RequireSameLibraries, NamesTheRanksAndVersionsThatDiffer) {
  for (const char* other : {"CUDA 13.0, cuDNN 9.18.0, cuBLASLt 13.1, NCCL 2.28.9",
                            "CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1, NCCL 2.27.5"}) {
    try {
      RequireSameLibraries(kHosts, {kLibraries, kLibraries, other});
      ADD_FAILURE() << "did not throw";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      EXPECT_THAT(error.message(),
                  AllOf(HasSubstr(fmt::format("rank 0 (node1) has {}", kLibraries)),
                        HasSubstr(fmt::format("rank 2 (node2) has {}", other))));
      EXPECT_EQ(error.message().find('\n'), std::string::npos);
      EXPECT_FALSE(error.hint().empty());
    }
  }
}

TEST(RequireSameLibraries, ListsTheHostsOfEveryVersion) {
  try {
    RequireSameLibraries({"a", "a", "b", "b", "c", "d"}, {"1", "1", "2", "2", "1", "3"});
    ADD_FAILURE() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "rank 0 (a), rank 4 (c) have 1; rank 2 (b) has 2; rank 5 (d) has 3");
  }
}

// What GridOf says of a world of `ranks`; the number of replicas if it is content.
std::string GridFor(int ranks, int towers, int replicas) {
  std::string text;
  RunAsThreads(ranks, {}, [&](World& world) {
    if (world.rank() != 0) return;
    try {
      text = std::to_string(GridOf({.towers = towers, .replicas = replicas}, world).replicas);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      text = error.what();
    }
  });
  return text;
}

TEST(GridOf, FillsInTheReplicas) {
  EXPECT_EQ(GridFor(4, 1, 0), "4");
  EXPECT_EQ(GridFor(4, 2, 0), "2");
  EXPECT_EQ(GridFor(4, 2, 2), "2");
}

TEST(GridOf, SaysWhichNumbersOfRanksTheTowersTake) {
  EXPECT_EQ(GridFor(3, 2, 0),
            "--towers 2 needs a multiple of 2 ranks, the world has 3. Hint: start 2 or 4 ranks, as "
            "with launch/convoyrun -n 4");
  EXPECT_THAT(GridFor(1, 2, 0), HasSubstr("start 2 ranks, as with launch/convoyrun -n 2"));
}

TEST(GridOf, SaysWhichReplicasTheRanksAre) {
  EXPECT_EQ(GridFor(4, 2, 3),
            "--replicas 3 x --towers 2 needs 6 ranks, the world has 4. Hint: start it with "
            "launch/convoyrun -n 6, or give --replicas 2");
  EXPECT_THAT(GridFor(3, 1, 2), HasSubstr("-n 2, or give --replicas 3"));
  EXPECT_THAT(GridFor(3, 2, 2), testing::EndsWith("launch/convoyrun -n 4"));
  EXPECT_THAT(GridFor(1, 2, 1 << 20), HasSubstr("needs 2097152 ranks"));
}

TEST(ShareOfProcessors, IsThatOfTheRanksOnTheSameProcessors) {
  EXPECT_EQ(ShareOfProcessors(16, 1, std::nullopt, 4), 16);
  EXPECT_EQ(ShareOfProcessors(16, 4, std::nullopt, 4), 4);
  EXPECT_EQ(ShareOfProcessors(2, 4, std::nullopt, 4), 1);
}

TEST(ShareOfProcessors, AQuotaIsSharedByTheRanksOfTheHost) {
  const ProcessorQuota eight{8, "/"}, one_and_a_half{1.5, "/"};
  EXPECT_EQ(ShareOfProcessors(64, 1, eight, 1), 8);
  EXPECT_EQ(ShareOfProcessors(64, 4, eight, 4), 2);
  EXPECT_EQ(ShareOfProcessors(4, 1, eight, 4), 2);  // each bound to 4 of its own
  EXPECT_EQ(ShareOfProcessors(4, 2, eight, 2), 2);
  EXPECT_EQ(ShareOfProcessors(64, 1, one_and_a_half, 1), 2);
  EXPECT_EQ(ShareOfProcessors(64, 3, one_and_a_half, 3), 1);
}

TEST(GatherRows, GivesEveryRankTheRowsOfAll) {
  struct Row {
    int32_t rank;
    char name[4];
  };
  RunAsThreads(3, {}, [](World& world) {
    const std::vector<Row> rows =
        GatherRows(world, Row{world.rank(), {static_cast<char>('a' + world.rank())}}, "a test");
    ASSERT_EQ(rows.size(), 3u);
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(rows[static_cast<size_t>(rank)].rank, rank);
      EXPECT_STREQ(rows[static_cast<size_t>(rank)].name,
                   std::string(1, static_cast<char>('a' + rank)).c_str());
    }
  });
}

}  // namespace
}  // namespace convoy
