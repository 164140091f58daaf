// What goes between hosts through which rank, as data: no MPI is needed.
#include "comm/mpi/exchange_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace convoy {
namespace {

Collective Of(CollectiveKind kind, DType dtype, int64_t count) {
  return {.kind = kind, .dtype = dtype, .block_count = count};
}

const std::vector<std::vector<int>> kTables = {
    {0, 1}, {0, 1, 2}, {0, 0, 1, 1}, {0, 1, 0, 1}, {0, 0, 1}, {7, 3, 3, 3, 7}, {0, 1, 2, 2, 2, 2}};

TEST(HostTable, NumbersHostsAndPlacesInTheOrderOfTheRanks) {
  const HostTable table({7, 3, 3, 7, 3}, HostLink::kNetwork);
  EXPECT_EQ(table.ranks(), 5);
  EXPECT_EQ(table.hosts(), 2);
  EXPECT_EQ(table.RanksOf(0), (std::vector<int>{0, 3}));
  EXPECT_EQ(table.RanksOf(1), (std::vector<int>{1, 2, 4}));
  EXPECT_EQ(table.HostOf(3), 0);
  EXPECT_EQ(table.PlaceOf(3), 1);
  EXPECT_EQ(table.PlaceOf(4), 2);
  EXPECT_EQ(table.fewest(), 2);
  EXPECT_EQ(table.most(), 3);
  // The third rank of one host goes through the first of the other, which has two.
  EXPECT_EQ(table.ServerOf(4, 0), 0);
  EXPECT_EQ(table.ServerOf(3, 1), 2);
}

TEST(ExchangePlan, SharesCoverEveryElementOnce) {
  for (const std::vector<int>& hosts : kTables) {
    const HostTable table(hosts, HostLink::kNetwork);
    for (const CollectiveKind kind :
         {CollectiveKind::kAllReduce, CollectiveKind::kAllGather, CollectiveKind::kReduceScatter}) {
      for (const int64_t count : {int64_t{1}, int64_t{31}, int64_t{20000}, int64_t{1000003}}) {
        const ExchangePlan plan(table, Of(kind, DType::kFloat32, count));
        const int64_t blocks = kind == CollectiveKind::kAllReduce ? 1 : table.ranks();
        // If every host adds, each one has all of them.
        const int shares = plan.every_host_adds() ? 1 : plan.shares();
        std::map<int64_t, int64_t> next;  // element of a block
        int64_t covered = 0;
        for (int64_t window = 0; window < plan.windows(); ++window) {
          for (int share = 0; share < shares; ++share) {
            const ShareRange range = plan.RangeOf(window, share);
            if (range.count == 0) continue;
            ASSERT_EQ(range.begin, next[range.block]);
            ASSERT_GT(range.count, 0);
            ASSERT_LE(range.count, plan.share_count());
            ASSERT_LT(range.begin - window * plan.window_count(), plan.window_count());
            next[range.block] += range.count;
            covered += range.count;
          }
        }
        EXPECT_EQ(covered, blocks * count);
        EXPECT_EQ(static_cast<int64_t>(next.size()), blocks);
      }
    }
  }
}

TEST(ExchangePlan, EveryRankKnowsItsShare) {
  for (const std::vector<int>& hosts : kTables) {
    const HostTable table(hosts, HostLink::kNetwork);
    for (const CollectiveKind kind : {CollectiveKind::kAllReduce, CollectiveKind::kAllGather}) {
      for (const int64_t count : {1, 1000003}) {
        const ExchangePlan plan(table, Of(kind, DType::kFloat32, count));
        std::set<int> owners;
        for (int share = 0; share < plan.shares(); ++share) {
          owners.insert(plan.OwnerOf(share));
          EXPECT_EQ(plan.ShareOf(plan.OwnerOf(share)), share);
        }
        EXPECT_EQ(static_cast<int>(owners.size()), plan.shares());
        for (int rank = 0; rank < table.ranks(); ++rank) {
          EXPECT_EQ(plan.ShareOf(rank) == -1, !owners.contains(rank));
        }
      }
    }
  }
}

// With two ranks on each host, each sends half of what crosses the link; two hosts send every byte
// once: half of the sums, then half of the results.
TEST(ExchangePlan, AllRanksOfAHostSendAnEqualPart) {
  const HostTable table({0, 0, 1, 1}, HostLink::kNetwork);
  constexpr int64_t kCount = 37752584;
  const ExchangePlan plan(table, Of(CollectiveKind::kAllReduce, DType::kFloat32, kCount));
  std::vector<int64_t> sent(4);
  for (int64_t window = 0; window < plan.windows(); ++window) {
    for (int share = 0; share < plan.shares(); ++share) {
      const int owner = plan.OwnerOf(share);
      const int64_t count = plan.RangeOf(window, share).count;
      sent[static_cast<size_t>(table.ServerOf(owner, 1 - table.HostOf(owner)))] += count;
      sent[static_cast<size_t>(owner)] += count;
    }
  }
  for (const int64_t elements : sent) {
    EXPECT_NEAR(static_cast<double>(elements), 0.5 * kCount, 1e-3 * kCount);
  }
}

TEST(ExchangePlan, WhatIsUnderWayIsBounded) {
  for (const HostLink link : {HostLink::kNetwork, HostLink::kMachine}) {
    for (const int ranks_of_a_host : {1, 2, 8}) {
      for (const int hosts : {2, 3, 8, 64}) {
        std::vector<int> host_of_rank;
        for (int rank = 0; rank < hosts * ranks_of_a_host; ++rank) {
          host_of_rank.push_back(rank / ranks_of_a_host);
        }
        const HostTable table(host_of_rank, link);
        EXPECT_GE(ExchangePlan::WindowsUnderWay(table), 4);
        EXPECT_GE(ExchangePlan::WindowsOfScratch(table), 1);
        EXPECT_LE(ExchangePlan::ScratchBytes(table), 8 << 20);
        for (const DType dtype : {DType::kUInt8, DType::kBFloat16, DType::kFloat64}) {
          const ExchangePlan plan(table, Of(CollectiveKind::kAllGather, dtype, 100000007));
          EXPECT_LE(plan.share_count() * SizeOf(dtype), ExchangePlan::MostShareBytes(table));
          EXPECT_LE(plan.shares() * plan.share_count() * SizeOf(dtype) *
                        ExchangePlan::WindowsOfScratch(table),
                    ExchangePlan::ScratchBytes(table));
        }
      }
    }
  }
}

// Two messages in a row would take twice as long.
TEST(ExchangePlan, FewNumbersGoToEveryHostAtOnce) {
  const HostTable table({0, 0, 1, 1, 2}, HostLink::kNetwork);
  const ExchangePlan few(table, Of(CollectiveKind::kAllReduce, DType::kFloat64, 3));
  EXPECT_TRUE(few.every_host_adds());
  EXPECT_FALSE(few.gathers());
  EXPECT_EQ(few.windows(), 1);
  EXPECT_EQ(few.shares(), 3);
  for (int host = 0; host < 3; ++host) {
    EXPECT_EQ(few.OwnerOf(host), table.RanksOf(host)[0]);
    EXPECT_EQ(few.RangeOf(0, host).count, 3);
  }
  const ExchangePlan many(table, Of(CollectiveKind::kAllReduce, DType::kFloat64, 1 << 20));
  EXPECT_FALSE(many.every_host_adds());
  EXPECT_TRUE(many.gathers());
}

}  // namespace
}  // namespace convoy
