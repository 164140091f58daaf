#include "trainer/run/stragglers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/host/files.h"
#include "tests/temporary_folder.h"

namespace convoy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<RankTime> Times(const std::vector<double>& own_ms) {
  std::vector<RankTime> times;
  for (const double ms : own_ms) times.push_back({ms, 0});
  return times;
}

TEST(FindStragglers, TakesRanksAboveOneAndAHalfTimesTheMedian) {
  EXPECT_THAT(FindStragglers(Times({10, 10, 10, 14.9}), 20), IsEmpty());
  EXPECT_THAT(FindStragglers(Times({10, 10, 15.1, 10}), 20), ElementsAre(2));
  EXPECT_THAT(FindStragglers(Times({10, 30, 10, 20, 10}), 30), ElementsAre(1, 3));
}

TEST(FindStragglers, TellsOneOfTwoRanksFromTheOther) {
  EXPECT_THAT(FindStragglers(Times({20, 10}), 20), ElementsAre(0));
  EXPECT_THAT(FindStragglers(Times({10, 14}), 20), IsEmpty());
}

TEST(FindStragglers, LeavesOutWhatHoldsNobodyUp) {
  EXPECT_THAT(FindStragglers(Times({0.01, 0.01, 5}), 100), IsEmpty());
  EXPECT_THAT(FindStragglers(Times({0.01, 0.01, 15}), 100), ElementsAre(2));
  EXPECT_THAT(FindStragglers(Times({0.9, 0.4}), 1.5), IsEmpty());
  EXPECT_THAT(FindStragglers(Times({0, 0}), 0), IsEmpty());
}

TEST(Summarise, NamesTheSlowestRankAndItsHost) {
  const RankTimesMetrics summary = Summarise(Times({12, 40, 11, 13}), {"a", "b", "c", "d"});
  EXPECT_EQ(summary.min_ms, 11);
  EXPECT_EQ(summary.median_ms, 12);
  EXPECT_EQ(summary.max_ms, 40);
  EXPECT_EQ(summary.slowest_rank, 1);
  EXPECT_EQ(summary.slowest_host, "b");
}

// What rank 0 of three prints on standard error, and writes into `metrics`, while `steps` steps are
// counted in two epochs. Rank 2 takes 30 ms of 40, 25 of them for its loader; the others take 10.
std::string WhatRank0Says(int steps, const std::string& metrics_path) {
  testing::internal::CaptureStderr();
  RunAsThreads(3, {}, [&](World& world) {
    Log log(world.rank() == 0 ? LogLevel::kInfo : LogLevel::kSilent, world.rank());
    std::unique_ptr<MetricsFile> metrics;
    if (world.rank() == 0) metrics = std::make_unique<MetricsFile>(metrics_path, 0, true, log);
    StragglerWatch watch(world, log);
    for (int epoch = 0; epoch < 2; ++epoch) {
      for (int step = 0; step < steps; ++step) {
        watch.Add(world.rank() == 2 ? RankTime{30, 25} : RankTime{10, 1}, 40);
      }
      watch.EndEpoch((epoch + 1) * steps, epoch, metrics.get());
    }
  });
  return testing::internal::GetCapturedStderr();
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(StragglerWatch, WarnsOnceAnEpochAndNamesRankAndTimes) {
  const TemporaryFolder folder;
  const std::string text = WhatRank0Says(5 * StragglerWatch::kWindow, folder.Path("metrics"));
  EXPECT_EQ(Count(text, "warning"), 2) << text;
  EXPECT_THAT(text, HasSubstr("rank 2 ("));
  EXPECT_THAT(text, HasSubstr("takes 30.0 ms a step (25.0 of them for its loader)"));
  EXPECT_THAT(text, HasSubstr("ms by rank: 10.0, 10.0, 30.0"));
}

TEST(StragglerWatch, GivesAnEpochsTimesToLogAndMetrics) {
  const TemporaryFolder folder;
  const std::string text = WhatRank0Says(4, folder.Path("metrics"));
  EXPECT_EQ(Count(text, "warning"), 0) << text;  // no window is full
  EXPECT_EQ(Count(text, "ranks: 10.0 to 30.0 ms a step"), 2) << text;
  const std::string metrics = ReadText(folder.Path("metrics"), ExitCode::kDisk);
  EXPECT_THAT(metrics, testing::StartsWith("{\"event\":\"ranks\",\"step\":4,\"epoch\":0,\"min_ms\":"
                                           "10.0,\"median_ms\":10.0,\"max_ms\":30.0,"
                                           "\"slowest_rank\":2,\"slowest_host\":\""));
  EXPECT_THAT(metrics, HasSubstr("\"step\":8,\"epoch\":1,"));
}

TEST(StragglerWatch, OfOneRankSaysNothing) {
  testing::internal::CaptureStderr();
  const auto world = MakeSelfWorld();
  Log log;
  StragglerWatch watch(*world, log);
  for (int step = 0; step < 3 * StragglerWatch::kWindow; ++step) watch.Add({10, 10}, 10);
  watch.EndEpoch(60, 0, nullptr);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace convoy
