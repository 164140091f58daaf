#include "trainer/ranks/replica_loader.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <string>

#include "tests/trainer/small_run.h"
#include "tests/trainer/torn_dataset.h"
#include "trainer/plan/program_costs.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/step_verdict.h"

namespace convoy {
namespace {

// Where an epoch of 100 images, of which 10 are bad, ends: after so many batches, with this
// message.
struct End {
  int64_t batches = 0;
  std::string message;
};

End EndOf(const GridShape& shape, const LoaderOptions& options) {
  const auto dataset = std::make_shared<TornDataset>(100);
  Log log(LogLevel::kSilent);
  std::mutex mutex;
  End end;
  std::set<int64_t> seen;
  RunAsThreads(shape.ranks(), {}, [&](World& world) {
    ProcessGrid grid(world, shape);
    ReplicaLoader loader(dataset, options, grid, log, BadSamplesCounted::kOverAllRanks);
    int64_t batches = 0;
    std::string message;
    try {
      for (; batches < loader.batches_per_epoch(); ++batches) {
        StepReport report;
        try {
          loader.Fetch();
        } catch (const Error& error) {
          report.fault = error;
        }
        report.bad_samples = loader.bad_samples();
        loader.CountBadSamples(world, Agree(world, report).bad_samples);
        loader.Exchange();
      }
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kData);
      message = error.message();
    }
    const std::lock_guard lock(mutex);
    seen.insert(batches);
    if (world.rank() == 0) end = {batches, message};
  });
  EXPECT_EQ(seen.size(), 1u) << "every rank ends at the same batch";
  return end;
}

LoaderOptions Options(BadSamplePolicy policy) {
  LoaderOptions options;
  options.seed = 3;
  options.global_batch = 10;
  options.bad_samples = policy;
  options.crop = {.resize = 8, .crop = 8, .channels = 1, .random = false};
  return options;
}

TEST(ReplicaLoader, TowersReceiveWhatTheCostsOfALoadSay) {
  const GridShape shape{.replicas = 2, .towers = 2};
  const auto dataset = std::make_shared<TornDataset>(100);
  Log log(LogLevel::kSilent);
  LoaderOptions options = Options(BadSamplePolicy::kSubstitute);
  options.bad_sample_limit = kNoBadSampleLimit;
  RunAsThreads(shape.ranks(), {}, [&](World& world) {
    ProcessGrid grid(world, shape);
    ReplicaLoader loader(dataset, options, grid, log);
    loader.Fetch();
    loader.Exchange();
    NetworkSpec network = SmallNetwork(false);
    network.input = Shape{options.crop.crop, options.crop.crop, options.crop.channels};
    std::vector<CollectiveCost> counted;
    for (const ProcessGrid::Traffic& one : grid.CountedTraffic()) {
      counted.push_back({one.row.what, one.row.kind, one.axes, one.row.calls, one.row.bytes});
    }
    // Only the input of the network matters.
    RankPlan plan = MakePlan(SmallNetwork(false), shape, world.rank());
    plan.network = network;
    EXPECT_EQ(counted, TrafficOf(CostsOf(plan, {}, {steps::Load{}}, {.rows = loader.rows()})));
    EXPECT_EQ(counted.size(), 2u);
  });
}

TEST(ReplicaLoader, BadSamplesOfAllRanksCountTogether) {
  for (const BadSamplePolicy policy : {BadSamplePolicy::kSubstitute, BadSamplePolicy::kDrop}) {
    const End alone = EndOf({.replicas = 1}, Options(policy));
    EXPECT_LT(alone.batches, 10);
    EXPECT_NE(alone.message.find("bad samples in epoch 0, at most 8 expected"), std::string::npos)
        << alone.message;
    for (const GridShape& shape :
         {GridShape{.replicas = 2}, GridShape{.replicas = 3}, GridShape{.replicas = 1, .towers = 2},
          GridShape{.replicas = 2, .towers = 2}, GridShape{.replicas = 10}}) {
      const End end = EndOf(shape, Options(policy));
      EXPECT_EQ(end.batches, alone.batches);
      EXPECT_EQ(end.message.substr(0, 30), alone.message.substr(0, 30));
    }
  }
}

TEST(ReplicaLoader, AnEpochWithFewerBadSamplesThanTheLimitGoesOnEverywhere) {
  LoaderOptions options = Options(BadSamplePolicy::kSubstitute);
  options.bad_sample_limit = 10;
  for (const int replicas : {1, 2, 3}) {
    const End end = EndOf({.replicas = replicas}, options);
    EXPECT_EQ(end.batches, 10) << end.message;
  }
}

}  // namespace
}  // namespace convoy
