#include "trainer/ranks/same_everywhere.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "core/error.h"

namespace convoy {
namespace {

const std::vector<std::string> kHosts{"node1", "node1", "node2", "node2"};

TEST(DescribeDifferences, NamesEveryOptionThatDiffersWithBothValues) {
  const std::string ours = "lr = 0.01\nseed = 0\nval = \nmomentum = 0.9\n";
  const std::string theirs = "lr = 0.1\nseed = 3\nval = photos\nmomentum = 0.9\n";
  EXPECT_EQ(
      DescribeDifferences(kHosts, {ours, ours, theirs, ours}),
      "rank 2 (node2): lr 0.1 (rank 0: 0.01), seed 3 (rank 0: 0), val photos (rank 0: empty)");
}

TEST(DescribeDifferences, NamesTheFirstRankOfEachOptionAndHowManyDiffer) {
  EXPECT_EQ(DescribeDifferences(
                kHosts, {"lr = 1\nseed = 0", "lr = 1\nseed = 1", "lr = 2\nseed = 2", "lr = 2"}),
            "rank 1 (node1): seed 1 (rank 0: 0); rank 2 (node2): lr 2 (rank 0: 1); 3 ranks differ");
}

TEST(DescribeDifferences, TellsAnOptionThatOneHasAndTheOtherHasNot) {
  EXPECT_EQ(DescribeDifferences(kHosts, {"steps = 5\n", "a = b\n", "steps = 5\n", "steps = 5\n"}),
            "rank 1 (node1): steps not given (rank 0: 5), a b (rank 0: not given)");
}

TEST(DescribeDifferences, ComparesAllValuesOfARepeatedOption) {
  EXPECT_EQ(DescribeDifferences({"a", "b"}, {"g = x lr=1\ng = y\n", "g = x lr=1\n"}),
            "rank 1 (b): g x lr=1 (rank 0: x lr=1, y)");
}

TEST(DescribeDifferences, IsOneLineWithoutLongValues) {
  const std::string text =
      DescribeDifferences({"a", "b"}, {"x = 1\n", "x = " + std::string(1000, 'y') + "\n"});
  EXPECT_LT(text.size(), 200u);
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(DescribeDifferences, OfEqualReportsIsEmpty) {
  EXPECT_EQ(DescribeDifferences(kHosts, {"a = 1", "a = 1", "a = 1", "a = 1"}), "");
}

TEST(RequireSameEverywhere, EveryRankIsToldTheSame) {
  std::atomic<int> told{0};
  RunAsThreads(3, {}, [&](World& world) {
    RequireSameEverywhere(world, "lr = 1\n", "settings", "");
    try {
      RequireSameEverywhere(world, world.rank() == 2 ? "lr = 2\n" : "lr = 1\n", "settings differ",
                            "mend it");
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      EXPECT_EQ(error.message(),
                fmt::format("settings differ: rank 2 ({}): lr 2 (rank 0: 1)", world.hosts()[2]));
      EXPECT_EQ(error.hint(), "mend it");
      ++told;
    }
  });
  EXPECT_EQ(told, 3);
}

}  // namespace
}  // namespace convoy
