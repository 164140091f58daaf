// Plans under --fc-shards as data: who owns which rows of what, who runs which rows of the batch,
// and what is exchanged. No rank runs here.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "layers/models.h"
#include "tests/trainer/plan/stage_names.h"
#include "trainer/plan/plan.h"

namespace convoy {
namespace {

NetworkSpec AlexNet(int classes = 1000) { return MakeModel("alexnet2012", {.classes = classes}); }

Exchange ExchangeNamed(const RankPlan& plan, const std::string& name) {
  for (const Stage& stage : plan.stages) {
    const auto* exchange = std::get_if<Exchange>(&stage);
    if (exchange != nullptr && exchange->name == name) return *exchange;
  }
  ADD_FAILURE() << "no exchange " << name;
  return {};
}

// Returns the rows of a parameter that a rank has: (begin, count); (0, 0) if none.
std::pair<int64_t, int64_t> RowsOf(const RankPlan& plan, const std::string& name) {
  for (const ParameterSlice& slice : plan.parameters) {
    if (slice.uncut.name == name) return {slice.begin, slice.count};
  }
  return {0, 0};
}

using Rows = std::pair<int64_t, int64_t>;
using Names = std::vector<std::string>;

TEST(ShardsPlan, ConvolutionsAreWholeAndFullyConnectedLayersAreCut) {
  const GridShape grid{.shards = 4};
  for (int rank = 0; rank < 4; ++rank) {
    const RankPlan plan = MakePlan(AlexNet(), grid, rank);
    EXPECT_EQ(StageNames(plan),
              (Names{"conv1..pool5", "<pool5 to fc6>", "fc6..drop6", "<drop6 to fc7>", "fc7..drop7",
                     "<drop7 to fc8>", "fc8..fc8", "<fc8 to loss>", "loss..loss"}));
    EXPECT_EQ(RowsOf(plan, "conv1.weight"), Rows(0, 96));
    EXPECT_EQ(RowsOf(plan, "conv5.bias"), Rows(0, 256));
    EXPECT_EQ(RowsOf(plan, "fc6.weight"), Rows(1024 * rank, 1024));
    EXPECT_EQ(RowsOf(plan, "fc7.bias"), Rows(1024 * rank, 1024));
    EXPECT_EQ(RowsOf(plan, "fc8.weight"), Rows(250 * rank, 250));
    for (const ParameterSlice& slice : plan.parameters) {
      const bool is_cut = slice.uncut.name.starts_with("fc");
      EXPECT_EQ(grid.Effective(slice.copies), is_cut ? Axes() : Axes(Axis::kShard))
          << slice.uncut.name;
    }
    EXPECT_TRUE(plan.has_loss);
    EXPECT_EQ(plan.counts_loss(), rank == 0);
  }
}

TEST(ShardsPlan, TowersCutTheConvolutionsAndEveryRankHasAPartOfTheRest) {
  const GridShape grid{.replicas = 2, .shards = 2, .towers = 2};
  for (int rank = 0; rank < 8; ++rank) {
    const RankPlan plan = MakePlan(AlexNet(), grid, rank);
    const int tower = rank % 2, part = rank % 4;
    EXPECT_EQ(RowsOf(plan, "conv2.weight"), Rows(128 * tower, 128));
    EXPECT_EQ(RowsOf(plan, "fc6.weight"), Rows(1024 * part, 1024));
    EXPECT_EQ(RowsOf(plan, "fc8.weight"), Rows(250 * part, 250));
    for (const ParameterSlice& slice : plan.parameters) {
      EXPECT_EQ(slice.copies, slice.uncut.name.starts_with("fc") ? Axes(Axis::kReplica)
                                                                 : Axis::kReplica | Axis::kShard)
          << slice.uncut.name;
    }
    EXPECT_TRUE(plan.has_loss);
    EXPECT_EQ(plan.counts_loss(), part == 0);
  }
}

TEST(ShardsPlan, AThousandClassesOverThreeAreAsEvenAsCanBe) {
  std::vector<Rows> rows;
  for (int rank = 0; rank < 3; ++rank) {
    const RankPlan plan = MakePlan(AlexNet(), {.shards = 3}, rank);
    rows.push_back(RowsOf(plan, "fc8.weight"));
    // A part has room for the largest.
    const Exchange exchange = ExchangeNamed(plan, "fc8 to loss");
    EXPECT_EQ(exchange.part, Shape{rows.back().second});
    EXPECT_EQ(exchange.PartCapacity(), 334);
    EXPECT_EQ(RowsOf(plan, "fc6.weight").second, rank == 0 ? 1366 : 1365);
  }
  EXPECT_EQ(rows, (std::vector<Rows>{{0, 334}, {334, 333}, {667, 333}}));
}

TEST(ShardsPlan, ARankWithoutAClassHasNoClassifierAndAllTheSameTheLoss) {
  const GridShape grid{.shards = 8};
  for (int rank = 0; rank < 8; ++rank) {
    const RankPlan plan = MakePlan(AlexNet(5), grid, rank);
    const bool has_class = rank < 5;
    EXPECT_EQ(RowsOf(plan, "fc8.weight"), has_class ? Rows(rank, 1) : Rows(0, 0));
    Names names{"conv1..pool5",   "<pool5 to fc6>", "fc6..drop6",    "<drop6 to fc7>", "fc7..drop7",
                "<drop7 to fc8>", "fc8..fc8",       "<fc8 to loss>", "loss..loss"};
    if (!has_class) names.erase(names.begin() + 6);
    EXPECT_EQ(StageNames(plan), names);
    const Exchange exchange = ExchangeNamed(plan, "fc8 to loss");
    EXPECT_EQ(exchange.part, Shape{has_class ? 1 : 0});
    EXPECT_EQ(exchange.PartCapacity(), 1);
    EXPECT_TRUE(plan.has_loss);
  }
}

TEST(ShardsPlan, FullyConnectedLayersRunTheRowsOfAllShards) {
  const RankPlan plan = MakePlan(AlexNet(), {.replicas = 2, .shards = 4}, 5);
  for (const Stage& stage : plan.stages) {
    const auto* segment = std::get_if<SegmentPlan>(&stage);
    if (segment == nullptr) continue;
    const bool is_before = segment->spec.items.front().layer.name == "conv1";
    EXPECT_EQ(segment->shards, is_before ? 1 : 4);
    // Batch norm sums over the ranks that have the other rows.
    EXPECT_EQ(segment->statistics,
              is_before ? Axis::kReplica | Axis::kShard : Axes(Axis::kReplica));
  }
}

TEST(ShardsPlan, RowsAreGatheredOnceAndChannelsAfterEveryFullyConnectedLayer) {
  const GridShape grid{.replicas = 2, .shards = 4};
  const RankPlan plan = MakePlan(AlexNet(), grid, 6);
  const Exchange rows = ExchangeNamed(plan, "pool5 to fc6");
  EXPECT_EQ(rows.kind, ExchangeKind::kAllGather);
  EXPECT_EQ(grid.Effective(rows.axes), Axes(Axis::kShard));
  EXPECT_EQ(rows.row_parts, 4);
  EXPECT_EQ(rows.channel_parts, 1);
  EXPECT_EQ(rows.shards_per_part, 1);
  EXPECT_EQ(rows.part, (Shape{6, 6, 256}));
  EXPECT_EQ(rows.whole, (Shape{6, 6, 256}));
  EXPECT_EQ(rows.PartCapacity(), 9216);

  const Exchange channels = ExchangeNamed(plan, "drop6 to fc7");
  EXPECT_EQ(channels.kind, ExchangeKind::kAllGather);
  EXPECT_EQ(grid.Effective(channels.axes), Axes(Axis::kShard));
  EXPECT_EQ(channels.row_parts, 1);
  EXPECT_EQ(channels.channel_parts, 4);
  EXPECT_EQ(channels.shards_per_part, 4);
  EXPECT_EQ(channels.part, Shape{1024});
  EXPECT_EQ(channels.whole, Shape{4096});
  EXPECT_EQ(channels.PartCapacity(), 1024);

  // Every rank computes the same loss from what it gathered, so nothing is sent back.
  EXPECT_EQ(ExchangeNamed(plan, "fc8 to loss").kind, ExchangeKind::kGatherCopies);
}

TEST(ShardsPlan, TowersAndShardsMeetInOneExchange) {
  const GridShape grid{.shards = 2, .towers = 2};
  const RankPlan plan = MakePlan(AlexNet(), grid, 3);
  const Exchange towers = ExchangeNamed(plan, "pool2 to conv3");
  EXPECT_EQ(towers.axes, Axes(Axis::kTower));
  EXPECT_EQ(towers.row_parts, 1);
  EXPECT_EQ(towers.channel_parts, 2);
  EXPECT_EQ(towers.shards_per_part, 1);

  const Exchange both = ExchangeNamed(plan, "pool5 to fc6");
  EXPECT_EQ(both.axes, Axis::kShard | Axis::kTower);
  EXPECT_EQ(both.row_parts, 2);
  EXPECT_EQ(both.channel_parts, 2);
  EXPECT_EQ(both.shards_per_part, 1);
  EXPECT_EQ(both.part, (Shape{6, 6, 128}));
  EXPECT_EQ(both.PartCapacity(), 6 * 6 * 128);

  const Exchange channels = ExchangeNamed(plan, "drop7 to fc8");
  EXPECT_EQ(channels.kind, ExchangeKind::kAllGather);
  EXPECT_EQ(channels.axes, Axis::kShard | Axis::kTower);
  EXPECT_EQ(channels.row_parts, 1);
  EXPECT_EQ(channels.channel_parts, 4);
  EXPECT_EQ(channels.shards_per_part, 2);
}

struct OwnedRows {
  std::vector<int> owners, holders;  // of every row
};

template <typename Slices>
void CountOwners(const RankPlan& plan, const Slices& slices,
                 std::map<std::string, OwnedRows>& rows) {
  for (const auto& slice : slices) {
    OwnedRows& found = rows[slice.uncut.name];
    const auto all = static_cast<size_t>(slice.uncut.shape[0]);
    found.owners.resize(all);
    found.holders.resize(all);
    for (int64_t row = slice.begin; row < slice.begin + slice.count; ++row) {
      found.owners[static_cast<size_t>(row)] += plan.IsFirstAlong(slice.copies) ? 1 : 0;
      // Counted once by each of the ranks that it says hold it.
      found.holders[static_cast<size_t>(row)] +=
          840 / plan.grid.RanksAlong(slice.copies);  // divisible by 1 to 8
    }
  }
}

TEST(ShardsPlan, EveryRowHasOneOwnerAndAsManyHoldersAsItsCopiesSay) {
  for (const char* model : {"alexnet2012", "alexnet-bn", "lenet5", "cifar10-quick"}) {
    for (const GridShape& grid :
         {GridShape{}, GridShape{.shards = 3}, GridShape{.replicas = 2, .shards = 4},
          GridShape{.shards = 7}, GridShape{.replicas = 2, .shards = 2, .towers = 2},
          GridShape{.shards = 3, .towers = 2}}) {
      const NetworkSpec network = MakeModel(model, {.classes = 5});
      std::map<std::string, OwnedRows> rows;
      size_t tensors = 0;
      for (const LayerSite& site : SitesOf(network)) {
        tensors += site.parameters.size() + site.buffers.size();
      }
      for (int rank = 0; rank < grid.ranks(); ++rank) {
        const RankPlan plan = MakePlan(network, grid, rank);
        CountOwners(plan, plan.parameters, rows);
        CountOwners(plan, plan.buffers, rows);
      }
      EXPECT_EQ(rows.size(), tensors);
      for (const auto& [name, found] : rows) {
        EXPECT_EQ(found.owners, std::vector<int>(found.owners.size(), 1)) << model << " " << name;
        EXPECT_EQ(found.holders, std::vector<int>(found.holders.size(), 840))
            << model << " " << name;
      }
    }
  }
}

TEST(ShardsPlan, BucketsAreReducedOverTheRanksWithTheSameRows) {
  const auto buckets = PlanBuckets(MakePlan(AlexNet(), {.replicas = 2, .shards = 4}, 3));
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[0].name, "fc7..fc8");
  EXPECT_EQ(buckets[0].axes, Axes(Axis::kReplica));
  EXPECT_EQ(buckets[1].name, "fc6");
  EXPECT_EQ(buckets[1].axes, Axes(Axis::kReplica));
  EXPECT_EQ(buckets[1].count, 9216 * 1024 + 1024);
  EXPECT_EQ(buckets[2].name, "conv1..conv5");
  EXPECT_EQ(buckets[2].axes, Axis::kReplica | Axis::kShard);
}

TEST(ShardsPlan, ANetworkWithoutAFullyConnectedLayerIsRefused) {
  const Convolution conv{.out_channels = 4, .kernel = 3, .padding = Padding::Same(1)};
  const NetworkSpec network{
      .name = "odd", .input = Shape{8, 8, 4}, .classes = 4, .layers = {{"conv1", conv}}};
  EXPECT_NO_THROW(MakePlan(network, {.replicas = 2}, 0));
  try {
    MakePlan(network, {.shards = 2}, 0);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    EXPECT_EQ(error.message(), "--fc-shards 2: odd has no fully connected layer");
  }
}

}  // namespace
}  // namespace convoy
