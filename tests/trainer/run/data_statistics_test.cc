#include "trainer/data_statistics.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/trainer/torn_dataset.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

StatisticsRequest Request(std::optional<int64_t> limit) {
  StatisticsRequest request{.resize = 8, .channels = 1, .count = 100};
  request.loading.bad_sample_limit = limit;
  return request;
}

TEST(DataStatistics, LeaveOutBadImagesOfAllRanksUpToTheLimit) {
  const TornDataset dataset(100);  // 10 are bad
  for (const int ranks : {1, 2, 3, 7}) {
    RunAsThreads(ranks, {}, [&](World& world) {
      Log log(LogLevel::kSilent);
      const DataStatistics statistics = ComputeStatistics(dataset, Request(10), world, log);
      EXPECT_EQ(statistics.images, 90);
      EXPECT_EQ(statistics.left_out, 10);
      EXPECT_EQ(statistics.channel_mean, std::vector<float>{100});
    });
  }
}

TEST(DataStatistics, TooManyBadImagesAreAnErrorOnAnyNumberOfRanks) {
  const TornDataset dataset(100);
  StatisticsRequest fails = Request({});
  fails.loading.bad_samples = BadSamplePolicy::kFail;
  for (const StatisticsRequest& request : {Request({}), Request(9), fails}) {
    for (const int ranks : {1, 2, 3, 7}) {
      std::atomic<int> told{0};
      RunAsThreads(ranks, {}, [&](World& world) {
        Log log(LogLevel::kSilent);
        try {
          ComputeStatistics(dataset, request, world, log);
        } catch (const AgreedError& error) {
          EXPECT_EQ(error.exit_code(), ExitCode::kData);
          EXPECT_NE(error.message().find("c/"), std::string::npos) << "names one";
          ++told;
        }
      });
      EXPECT_EQ(told, ranks);
    }
  }
}

}  // namespace
}  // namespace convoy
