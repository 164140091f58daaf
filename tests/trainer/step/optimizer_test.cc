#include "trainer/step/optimizer.h"

#include <gtest/gtest.h>

#include <map>

#include "layers/models.h"

namespace convoy {
namespace {

// What the optimiser says of a parameter.
struct Said {
  UpdateRange range;
  double lr = 0, momentum = 0, weight_decay = 0;
};

std::map<std::string, Said> SaidByName(const OptimizerOptions& options, double epoch,
                                       const RankPlan& plan) {
  Optimizer optimizer(options, plan);
  const std::vector<UpdateRange> ranges = optimizer.UpdatesOf({}).ranges;
  const auto rates = optimizer.NextRates({.epoch = epoch, .total_epochs = 90}).parameters;
  const ArenaLayout layout = plan.ParameterLayout();
  std::map<std::string, Said> by_name;
  for (size_t i = 0; i < rates.size(); ++i) {
    by_name[layout.entries()[i].name] = {ranges[i], rates[i].lr, rates[i].momentum,
                                         rates[i].weight_decay};
  }
  return by_name;
}

RankPlan Plan() { return MakePlan(MakeModel("alexnet2012"), {}, 0); }

bool Learns(Optimizer optimizer, const std::string& layer, double epoch) {
  const std::vector<bool> learns = optimizer.NextRates({.epoch = epoch}).learns;
  for (const LayerSite& site : SitesOf(MakeModel("alexnet2012"))) {
    if (site.layer.name == layer) return learns.at(static_cast<size_t>(site.index));
  }
  ADD_FAILURE() << "no layer " << layer;
  return false;
}

TEST(Optimizer, TheModelsMultipliersApply) {
  auto ranges = SaidByName({.lr = 0.01, .weight_decay = 5e-4}, 0, Plan());
  EXPECT_DOUBLE_EQ(ranges["conv1.weight"].lr, 0.01);
  EXPECT_DOUBLE_EQ(ranges["conv1.bias"].lr, 0.02);
  EXPECT_DOUBLE_EQ(ranges["fc8.weight"].weight_decay, 5e-4);
  EXPECT_DOUBLE_EQ(ranges["fc8.bias"].weight_decay, 0);
  EXPECT_EQ(ranges["conv2.weight"].range.begin,
            Plan().ParameterLayout().Find("conv2.weight").offset);
  EXPECT_EQ(ranges["conv2.weight"].range.count, 256 * 5 * 5 * 48);
}

// The 2012 run: the biases' rate is not cut with the weights', conv1 is frozen at the end.
TEST(Optimizer, GroupsSayTheScheduleOfThe2012Run) {
  OptimizerOptions options{.lr = 0.01,
                           .lr_scheduler = Schedule::Parse("piecewise:25=0.001,51=0.0001", "x")};
  options.groups = {
      ParameterGroup::Parse("*.bias lr=0.02 lr-multiplier=1 lr-scheduler=constant"),
      ParameterGroup::Parse("conv1.weight lr-scheduler=piecewise:25=0.001,67=0.00001,72=0"),
      ParameterGroup::Parse("conv1.bias lr-scheduler=piecewise:72=0")};
  auto late = SaidByName(options, 73, Plan());
  EXPECT_DOUBLE_EQ(late["conv2.weight"].lr, 0.0001);
  EXPECT_DOUBLE_EQ(late["conv2.bias"].lr, 0.02);
  EXPECT_EQ(late["conv1.weight"].lr, 0);
  EXPECT_EQ(late["conv1.bias"].lr, 0);
  EXPECT_DOUBLE_EQ(SaidByName(options, 68, Plan())["conv1.weight"].lr, 0.00001);

  const Optimizer optimizer(options, Plan());
  EXPECT_TRUE(Learns(optimizer, "conv1", 71));
  EXPECT_FALSE(Learns(optimizer, "conv1", 72));
  EXPECT_TRUE(Learns(optimizer, "conv2", 72));
  EXPECT_FALSE(Learns(optimizer, "relu1", 0)) << "it has no parameters";
}

TEST(Optimizer, AMultiplierAppliesToScheduledValuesToo) {
  auto ranges = SaidByName({.lr = 0.01, .lr_scheduler = Schedule::Parse("piecewise:1=0.001", "x")},
                           1, Plan());
  EXPECT_DOUBLE_EQ(ranges["conv1.bias"].lr, 0.002);
}

TEST(Optimizer, LaterGroupsWin) {
  OptimizerOptions options;
  options.groups = {ParameterGroup::Parse("fc?.weight momentum=0.5 weight-decay=0.1"),
                    ParameterGroup::Parse("fc8.* momentum=0.7")};
  auto ranges = SaidByName(options, 0, Plan());
  EXPECT_EQ(ranges["fc6.weight"].momentum, 0.5);
  EXPECT_EQ(ranges["fc8.weight"].momentum, 0.7);
  EXPECT_EQ(ranges["fc8.weight"].weight_decay, 0.1);
  EXPECT_EQ(ranges["conv1.weight"].momentum, 0.9);
}

// On the tower without fc8 a group for it still matches the network.
TEST(Optimizer, GroupsAreHeldAgainstTheUncutNetwork) {
  OptimizerOptions options;
  options.groups = {ParameterGroup::Parse("fc8.* lr-multiplier=3")};
  const RankPlan tower = MakePlan(MakeModel("alexnet2012"), {.towers = 2}, 1);
  EXPECT_EQ(Optimizer(options, tower).NextRates({}).parameters.size(), 14u);
  EXPECT_TRUE(Learns(Optimizer(options, tower), "fc8", 0));
}

// Adam corrects its means by the count of a parameter's own updates.
TEST(Optimizer, CountsTheUpdatesOfEveryParameterThatIsNotFrozen) {
  OptimizerOptions options;
  options.groups = {ParameterGroup::Parse("conv1.weight lr-scheduler=piecewise:0=0,2=0.1")};
  Optimizer optimizer(options, Plan());
  ASSERT_EQ(optimizer.ParameterNames()[0], "conv1.weight");
  const auto counts_at = [&](double epoch) {
    const StepRates rates = optimizer.NextRates({.epoch = epoch});
    return std::pair(rates.parameters[0].updates, rates.parameters[1].updates);
  };
  EXPECT_EQ(counts_at(0), std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(counts_at(1), std::pair(int64_t{0}, int64_t{1}));
  EXPECT_EQ(counts_at(2), std::pair(int64_t{0}, int64_t{2}));
  EXPECT_EQ(counts_at(3), std::pair(int64_t{1}, int64_t{3}));
}

TEST(Optimizer, WrongGroupsAreUsageErrors) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      OptimizerOptions options;
      options.groups = {ParameterGroup::Parse(text)};
      Optimizer(options, Plan());
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message("conv9.* lr=1").find("matches no parameter"), std::string::npos);
  EXPECT_NE(message("conv1.* lrs=1").find("did you mean lr?"), std::string::npos);
  EXPECT_NE(message("conv1.* lr=fast").find("takes a number"), std::string::npos);
  EXPECT_NE(message("conv1.*").find("expected 'PATTERN"), std::string::npos);
  EXPECT_NE(message("conv1.* lr-scheduler=stop").find("expected constant"), std::string::npos);
}

}  // namespace
}  // namespace convoy
