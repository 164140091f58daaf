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
