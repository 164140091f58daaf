// Plans as data: what each rank owns, what crosses between the towers. No rank runs here.
#include "trainer/plan/plan.h"

#include <gtest/gtest.h>

#include <map>

#include "layers/models.h"
#include "tests/trainer/plan/stage_names.h"

namespace convoy {
namespace {

NetworkSpec AlexNet() { return MakeModel("alexnet2012"); }

TEST(Plan, OneRankRunsTheUncutNetworkInOneSegment) {
  const RankPlan plan = MakePlan(AlexNet(), {}, 0);
  ASSERT_EQ(plan.stages.size(), 1u);
  const SegmentSpec& segment = std::get<SegmentPlan>(plan.stages[0]).spec;
  ASSERT_EQ(segment.items.size(), AlexNet().layers.size());
  for (size_t i = 0; i < segment.items.size(); ++i) {
    EXPECT_EQ(segment.items[i].layer, AlexNet().layers[i]);
    EXPECT_EQ(segment.items[i].output.begin, 0);
    EXPECT_EQ(segment.items[i].output.count, segment.items[i].output.total);
  }
  EXPECT_EQ(plan.ParameterCount(), 60965224);
  EXPECT_TRUE(plan.has_loss);
}

TEST(Plan, TowersOwnThePapersShareOfTheParameters) {
  EXPECT_EQ(MakePlan(AlexNet(), {.towers = 2}, 0).ParameterCount(), 32531112);
  EXPECT_EQ(MakePlan(AlexNet(), {.towers = 2}, 1).ParameterCount(), 28434112);
}

TEST(Plan, TowersMeetWhereThePapersGpusCommunicate) {
  EXPECT_EQ(StageNames(MakePlan(AlexNet(), {.towers = 2}, 0)),
            (std::vector<std::string>{"conv1..pool2", "<pool2 to conv3>", "conv3..pool5",
                                      "<pool5 to fc6>", "fc6..drop6", "<drop6 to fc7>",
                                      "fc7..drop7", "<drop7 to fc8>", "fc8..loss"}));
  EXPECT_EQ(StageNames(MakePlan(AlexNet(), {.towers = 2}, 1)),
            (std::vector<std::string>{"conv1..pool2", "<pool2 to conv3>", "conv3..pool5",
                                      "<pool5 to fc6>", "fc6..drop6", "<drop6 to fc7>",
                                      "fc7..drop7", "<drop7 to fc8>"}));
}

TEST(Plan, ExchangedBytesPerImageAreThoseOfTheReference) {
  std::map<std::pair<int, int>, std::map<std::string, int64_t>> bytes;
  std::map<std::pair<int, int>, int64_t> total;
  for (const ExchangeTraffic& row : ForwardTraffic(AlexNet(), {.towers = 2})) {
    bytes[{row.from, row.to}][row.name] = 4 * row.elements;
    total[{row.from, row.to}] += 4 * row.elements;
  }
  EXPECT_EQ((bytes[{0, 1}]),
            (std::map<std::string, int64_t>{
                {"pool2 to conv3", 86528}, {"pool5 to fc6", 18432}, {"drop6 to fc7", 8192}}));
  EXPECT_EQ((bytes[{1, 0}]), (std::map<std::string, int64_t>{{"pool2 to conv3", 86528},
                                                             {"pool5 to fc6", 18432},
                                                             {"drop6 to fc7", 8192},
                                                             {"drop7 to fc8", 8192}}));
  EXPECT_EQ((total[{0, 1}]), 113152);
  EXPECT_EQ((total[{1, 0}]), 121344);
}

TEST(Plan, TheClassifierAndTheLossLiveOnTowerZero) {
  const RankPlan a = MakePlan(AlexNet(), {.towers = 2}, 0),
                 b = MakePlan(AlexNet(), {.towers = 2}, 1);
  EXPECT_TRUE(a.has_loss);
  EXPECT_FALSE(b.has_loss);
  EXPECT_TRUE(a.ParameterLayout().Has("fc8.weight"));
  EXPECT_FALSE(b.ParameterLayout().Has("fc8.weight"));
}

TEST(Plan, TheSlicesOfTheTowersTileEveryParameter) {
  for (const char* model : {"alexnet2012", "alexnet-bn", "alexnet-torchvision"}) {
    std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> rows;
    std::map<std::string, int64_t> full;
    for (int tower = 0; tower < 2; ++tower) {
      for (const ParameterSlice& slice :
           MakePlan(MakeModel(model), {.towers = 2}, tower).parameters) {
        rows[slice.uncut.name].push_back({slice.begin, slice.begin + slice.count});
        full[slice.uncut.name] = slice.uncut.shape[0];
      }
    }
    int64_t total = 0;
    for (auto& [name, ranges] : rows) {
      int64_t end = 0;
      for (const auto& [from, to] : ranges) {
        EXPECT_EQ(from, end) << model << " " << name;
        end = to;
      }
      EXPECT_EQ(end, full[name]) << model << " " << name;
    }
    for (int tower = 0; tower < 2; ++tower) {
      total += MakePlan(MakeModel(model), {.towers = 2}, tower).ParameterCount();
    }
    EXPECT_EQ(total, CountsOf(MakeModel(model)).parameters) << model;
  }
}

TEST(Plan, EveryActivationKnowsItsSliceOfTheUncutOne) {
  const RankPlan plan = MakePlan(AlexNet(), {.towers = 2}, 1);
  std::map<std::string, ChannelSlice> slices;
  for (const Stage& stage : plan.stages) {
    const auto* segment = std::get_if<SegmentPlan>(&stage);
    if (segment == nullptr) continue;
    for (const auto& item : segment->spec.items) slices[item.layer.name] = item.output;
  }
  EXPECT_EQ(slices["conv1"], (ChannelSlice{48, 48, 96}));
  EXPECT_EQ(slices["pool2"], (ChannelSlice{128, 128, 256}));
  EXPECT_EQ(slices["drop6"], (ChannelSlice{2048, 2048, 4096}));
}

TEST(Plan, GroupsAndLrnGroupsAreDividedByTheTowers) {
  const RankPlan plan = MakePlan(AlexNet(), {.towers = 2}, 0);
  const auto& items = std::get<SegmentPlan>(plan.stages[0]).spec.items;
  EXPECT_EQ(std::get<Convolution>(items[0].layer.layer).out_channels, 48);
  EXPECT_EQ(std::get<Lrn>(items[2].layer.layer).groups, 1);
  EXPECT_EQ(std::get<Convolution>(items[4].layer.layer).groups, 1);
  EXPECT_EQ(std::get<Convolution>(items[4].layer.layer).out_channels, 128);
}

TEST(Plan, ReplicasHoldTheWholeNetworkAndNeighboursShareAReplica) {
  const RankPlan plan = MakePlan(AlexNet(), {.replicas = 2, .towers = 2}, 3);
  EXPECT_EQ(plan.place.replica, 1);
  EXPECT_EQ(plan.place.tower, 1);
  EXPECT_EQ(MakePlan(AlexNet(), {.replicas = 4}, 3).ParameterCount(), 60965224);
}

TEST(Plan, ModelsThatTowersCannotCutAreRefusedByLayer) {
  const auto message = [](const std::string& model, int towers) -> std::string {
    try {
      MakePlan(MakeModel(model), {.towers = towers}, 0);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message("alexnet-grouped", 2).find("norm1"), std::string::npos);
  EXPECT_NE(message("alexnet2012", 3).find("--towers 3: expected 1 or 2"), std::string::npos);
  EXPECT_EQ(message("alexnet-torchvision", 2), "no error");
}

TEST(PlanBuckets, AreThoseOfTheReferenceInBackwardOrder) {
  const auto buckets = PlanBuckets(MakePlan(AlexNet(), {.replicas = 2}, 0));
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[0].name, "fc7..fc8");
  EXPECT_EQ(buckets[1].name, "fc6");
  EXPECT_EQ(buckets[2].name, "conv1..conv5");
  EXPECT_NEAR(4e-6 * static_cast<double>(buckets[0].count), 83.5, 0.05);
  EXPECT_NEAR(4e-6 * static_cast<double>(buckets[1].count), 151.0, 0.05);
  EXPECT_NEAR(4e-6 * static_cast<double>(buckets[2].count), 9.3, 0.05);
}

TEST(PlanBuckets, CoverTheArenaOfEveryModelAndTower) {
  for (const ModelInfo& info : Models()) {
    const RankPlan plan = MakePlan(MakeModel(info.name), {.replicas = 2}, 0);
    int64_t end = plan.ParameterLayout().count();
    for (const BucketRange& bucket : PlanBuckets(plan)) {
      EXPECT_EQ(bucket.begin + bucket.count, end) << info.name;
      end = bucket.begin;
    }
    EXPECT_EQ(end, 0) << info.name;
  }
}

}  // namespace
}  // namespace convoy
