#include "trainer/run/loss_spikes.h"

#include <gtest/gtest.h>

namespace convoy {
namespace {

// Losses around 2, with a standard deviation of 0.1.
void AddOrdinary(LossSpikeWatch& watch, int count) {
  for (int i = 0; i < count; ++i) {
    EXPECT_FALSE(watch.Add(i % 2 == 0 ? 1.9 : 2.1)) << "loss " << i;
  }
}

TEST(LossSpikeWatch, ALossFarAboveThoseBeforeIsOne) {
  LossSpikeWatch watch;
  AddOrdinary(watch, 40);
  EXPECT_FALSE(watch.Add(2.5));
  AddOrdinary(watch, 200);  // it leaves the window
  const auto spike = watch.Add(3.0);
  ASSERT_TRUE(spike);
  EXPECT_NEAR(spike->mean, 2.0, 1e-9);
  EXPECT_NEAR(spike->deviation, 0.1, 1e-9);
  EXPECT_NEAR(spike->Deviations(), 10, 1e-9);
}

TEST(LossSpikeWatch, ALossThatFallsIsNone) {
  LossSpikeWatch watch;
  AddOrdinary(watch, 40);
  EXPECT_FALSE(watch.Add(0.1));
}

TEST(LossSpikeWatch, NothingIsSaidOfTheFirstSteps) {
  LossSpikeWatch watch;
  AddOrdinary(watch, LossSpikeWatch::kFewest - 1);
  EXPECT_FALSE(watch.Add(100));
}

TEST(LossSpikeWatch, RoundingOfALossThatStandsStillIsNone) {
  LossSpikeWatch watch;
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(watch.Add(2));
  EXPECT_FALSE(watch.Add(2.000001));
  EXPECT_TRUE(watch.Add(2.1));
}

TEST(LossSpikeWatch, ALevelThatStaysIsSaidAFewTimesOnly) {
  LossSpikeWatch watch;
  AddOrdinary(watch, 100);
  int spikes = 0;
  for (int i = 0; i < 50; ++i) spikes += watch.Add(9) ? 1 : 0;
  EXPECT_GE(spikes, 1);
  EXPECT_LE(spikes, 5);
}

}  // namespace
}  // namespace convoy
