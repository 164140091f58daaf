#include "comm/buckets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/device/staged.h"
#include "comm/world.h"
#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/launch.h"

namespace convoy {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Three buckets of a small arena, in backward order; elements 90..99 belong to none.
std::vector<Bucket> ThreeBuckets(Communicator& group) {
  return {{.name = "fc8+fc7", .begin = 60, .count = 30, .group = &group},
          {.name = "fc6", .begin = 20, .count = 40, .group = &group},
          {.name = "conv", .begin = 0, .count = 20, .group = &group}};
}

constexpr int64_t kCount = 100;
const std::vector<GradientBuckets::Range> kAllRanges = {{75, 15}, {60, 15}, {20, 40}, {0, 20}};

template <typename T>
std::vector<T> Gradients(int rank) {
  std::vector<T> values(kCount);
  for (int64_t i = 0; i < kCount; ++i) values[static_cast<size_t>(i)] = T(i + 100 * rank + 1);
  return values;
}

double SumOver(int ranks, int64_t i) {
  return static_cast<double>(ranks * (i + 1)) + 50.0 * ranks * (ranks - 1);
}

template <typename T>
Tensor View(std::vector<T>& values) {
  return {values.data(), DTypeOf<T>::value, {static_cast<int64_t>(values.size())}};
}

class BucketsTest : public ::testing::TestWithParam<Overlap> {};

TEST_P(BucketsTest, EveryAnnouncedGradientIsSummedAndNothingElse) {
  RunAsThreads(3, {}, [](World& world) {
    HostStream stream;
    std::vector<float> gradients = Gradients<float>(world.rank());
    GradientBuckets buckets(ThreeBuckets(world.all()), View(gradients), {.overlap = GetParam()});
    for (int step = 0; step < 3; ++step) {
      std::ranges::copy(Gradients<float>(world.rank()), gradients.begin());
      buckets.Begin(kAllRanges);
      for (const auto& range : kAllRanges) buckets.GradientReady(stream, range.begin, range.count);
      for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
      for (int64_t i = 0; i < kCount; ++i) {
        const double expected =
            i < 90 ? SumOver(3, i) : static_cast<double>(i + 100 * world.rank() + 1);
        ASSERT_EQ(gradients[static_cast<size_t>(i)], expected) << i;
      }
    }
  });
}

TEST_P(BucketsTest, FrozenRangesStayAndEmptyBucketsAreSkipped) {
  RunAsThreads(2, {}, [](World& world) {
    HostStream stream;
    std::vector<double> gradients = Gradients<double>(world.rank());
    const std::vector<double> before = gradients;
    // A wide gap, so that it is not taken for padding.
    std::vector<Bucket> wide = {{"fc", 40, 60, &world.all()}, {"conv", 0, 40, &world.all()}};
    GradientBuckets buckets(wide, View(gradients), {.overlap = GetParam()});
    buckets.Begin({{40, 10}, {85, 15}});
    buckets.GradientReady(stream, 85, 15);
    buckets.GradientReady(stream, 40, 10);
    buckets.Wait(stream, 0);
    buckets.Wait(stream, 1);
    for (int64_t i = 0; i < kCount; ++i) {
      const bool learns = (i >= 40 && i < 50) || i >= 85;
      ASSERT_EQ(gradients[static_cast<size_t>(i)],
                learns ? SumOver(2, i) : before[static_cast<size_t>(i)])
          << i;
    }
  });
}

TEST_P(BucketsTest, BFloat16WireRoundsEachRankAndTheSum) {
  RunAsThreads(2, {}, [](World& world) {
    HostStream stream;
    std::vector<float> gradients(kCount);
    for (int64_t i = 0; i < kCount; ++i) {
      gradients[static_cast<size_t>(i)] = 0.37f * static_cast<float>(i + 1 + world.rank());
    }
    GradientBuckets buckets(ThreeBuckets(world.all()), View(gradients),
                            {.overlap = GetParam(), .wire = DType::kBFloat16});
    buckets.Begin(kAllRanges);
    for (const auto& range : kAllRanges) buckets.GradientReady(stream, range.begin, range.count);
    for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
    for (int64_t i = 0; i < 90; ++i) {
      const auto rounded = [](float value) { return static_cast<float>(BFloat16(value)); };
      const float expected = rounded(rounded(0.37f * static_cast<float>(i + 1)) +
                                     rounded(0.37f * static_cast<float>(i + 2)));
      ASSERT_EQ(gradients[static_cast<size_t>(i)], expected) << i;
    }
  });
}

TEST_P(BucketsTest, GroupOfOneLeavesTheGradientsAlone) {
  HostStream stream;
  const std::unique_ptr<World> world = MakeSelfWorld();
  std::vector<float> gradients = Gradients<float>(0);
  gradients[3] = 0.1f;  // bf16 would round it
  const std::vector<float> before = gradients;
  GradientBuckets buckets(ThreeBuckets(world->all()), View(gradients),
                          {.overlap = GetParam(), .wire = DType::kBFloat16});
  buckets.Begin(kAllRanges);
  for (const auto& range : kAllRanges) buckets.GradientReady(stream, range.begin, range.count);
  for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
  EXPECT_EQ(gradients, before);
}

// What the equality tests of a trainer rely on: a bucket that nobody reduces shows.
TEST_P(BucketsTest, BucketThatIsSkippedIsVisible) {
  RunAsThreads(2, {}, [](World& world) {
    HostStream stream;
    std::vector<float> gradients = Gradients<float>(world.rank());
    GradientBuckets buckets(ThreeBuckets(world.all()), View(gradients), {.overlap = GetParam()});
    buckets.Begin({{60, 30}, {0, 20}});  // fc6 is forgotten
    buckets.GradientReady(stream, 60, 30);
    EXPECT_THROW(buckets.GradientReady(stream, 20, 40), Error);
    buckets.GradientReady(stream, 0, 20);
    for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
    EXPECT_EQ(gradients[70], SumOver(2, 70));
    EXPECT_NE(gradients[30], SumOver(2, 30));

    buckets.Begin({{20, 40}});
    buckets.GradientReady(stream, 20, 30);  // and here a part of it
    try {
      buckets.Wait(stream, 1);
      ADD_FAILURE() << "did not throw";
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr("bucket fc6 has 30 of 40 gradients"));
    }
  });
}

// Frozen weights are released too, and padding between ranges is not waited for.
TEST_P(BucketsTest, FinishOnceWithTheirLastGradientAndTheirLastWeights) {
  RunAsThreads(2, {}, [](World& world) {
    HostStream stream;
    std::vector<float> gradients = Gradients<float>(world.rank());
    GradientBuckets buckets(ThreeBuckets(world.all()), View(gradients), {.overlap = GetParam()});
    std::vector<int> finished;
    for (int step = 0; step < 2; ++step) {
      finished.clear();
      // Of fc8+fc7 the first 15 are frozen; all of fc6 is.
      buckets.Begin({{75, 15}, {0, 5}, {8, 12}}, [&](int bucket) {
        finished.push_back(bucket);
        buckets.Wait(stream, bucket);
      });
      buckets.WeightsReleased(75, 15);
      EXPECT_THAT(finished, IsEmpty()) << "its gradients are not ready";
      buckets.GradientReady(stream, 75, 15);
      EXPECT_THAT(finished, ElementsAre(0));
      buckets.WeightsReleased(60, 15);
      buckets.WeightsReleased(20, 40);
      EXPECT_THAT(finished, ElementsAre(0)) << "frozen weights finish nothing";
      buckets.GradientReady(stream, 8, 12);
      buckets.GradientReady(stream, 0, 5);
      buckets.WeightsReleased(8, 12);
      EXPECT_THAT(finished, ElementsAre(0)) << "some of its weights are still read";
      buckets.WeightsReleased(0, 5);
      EXPECT_THAT(finished, ElementsAre(0, 2));
      for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
    }
    EXPECT_EQ(gradients[3], 2 * SumOver(2, 3)) << "the second step has summed the sums";
  });
}

TEST_P(BucketsTest, ASecondReleaseOfTheSameWeightsIsADefect) {
  const std::unique_ptr<World> world = MakeSelfWorld();
  std::vector<float> gradients(kCount);
  GradientBuckets buckets(ThreeBuckets(world->all()), View(gradients), {.overlap = GetParam()});
  buckets.Begin({{0, 20}});
  buckets.WeightsReleased(0, 20);
  EXPECT_THROW(buckets.WeightsReleased(0, 20), Error);
}

// A step that is queued a second time starts from nothing.
TEST_P(BucketsTest, AnAbandonedStepCountsForNothing) {
  const std::unique_ptr<World> world = MakeSelfWorld();
  HostStream stream;
  std::vector<float> gradients(kCount);
  GradientBuckets buckets(ThreeBuckets(world->all()), View(gradients), {.overlap = GetParam()});
  std::vector<int> finished;
  const auto note = [&](int bucket) { finished.push_back(bucket); };
  buckets.Begin({{0, 20}}, note);
  buckets.GradientReady(stream, 0, 20);
  buckets.Abandon();
  buckets.Begin({{0, 20}}, note);
  buckets.WeightsReleased(0, 20);
  EXPECT_THAT(finished, IsEmpty());
  buckets.GradientReady(stream, 0, 20);
  EXPECT_THAT(finished, ElementsAre(2));
}

std::string NameOfOverlap(const ::testing::TestParamInfo<Overlap>& overlap) {
  return overlap.param == Overlap::kOn ? "On" : "Off";
}

INSTANTIATE_TEST_SUITE_P(Overlap, BucketsTest, ::testing::Values(Overlap::kOn, Overlap::kOff),
                         NameOfOverlap);

TEST(Buckets, StartWithTheirLastGradient) {
  RunAsThreads(2, {}, [](World& world) {
    HostStream stream;
    std::vector<float> gradients = Gradients<float>(world.rank());
    GradientBuckets buckets(ThreeBuckets(world.all()), View(gradients), {});
    buckets.Begin(kAllRanges);
    buckets.GradientReady(stream, 75, 15);
    // Nothing has been sent yet: this barrier would not match it.
    world.all().Barrier("before the last gradient");
    buckets.GradientReady(stream, 60, 15);
    // This one follows the reduction.
    world.all().Barrier("after the last gradient");
    EXPECT_EQ(gradients[60], SumOver(2, 60));
    buckets.Wait(stream, 0);
    buckets.GradientReady(stream, 20, 40);
    buckets.GradientReady(stream, 0, 20);
    buckets.Wait(stream, 1);
    buckets.Wait(stream, 2);
  });
}

TEST(Buckets, OverlappingBucketsAndMissingWaitsAreDefects) {
  const std::unique_ptr<World> world = MakeSelfWorld();
  HostStream stream;
  std::vector<float> gradients(kCount);
  EXPECT_THROW(GradientBuckets({{"a", 0, 50, &world->all()}, {"b", 49, 10, &world->all()}},
                               View(gradients), {}),
               Error);
  EXPECT_THROW(GradientBuckets({{"a", 90, 11, &world->all()}}, View(gradients), {}), Error);
  GradientBuckets buckets(ThreeBuckets(world->all()), View(gradients), {});
  buckets.Begin({{0, 20}});
  buckets.GradientReady(stream, 0, 20);
  EXPECT_THROW(buckets.Begin({{0, 20}}), Error);
}

// Nothing but queued work touches the gradients: the host never waits for the device.
TEST(Buckets, OfADeviceTravelAsBFloat16) {
  RunAsThreads(2, {}, [](World& world) {
    const auto group =
        MakeStaged(world.Split("devices", 0, world.rank()),
                   {.name = "devices", .make_stream = [] { return cuda::MakeStream(0); }});
    const auto stream = cuda::MakeStream(0);
    const Buffer memory = cuda::AllocateDevice(0, kCount * static_cast<int64_t>(sizeof(float)));
    const Tensor gradients = ViewOf(memory, DType::kFloat32, {kCount});
    const BucketOptions options{
        .wire = DType::kBFloat16,
        .allocate_wire = [](int64_t bytes) { return cuda::AllocateDevice(0, bytes); },
        .convert =
            [](Stream& on, const Tensor& from, const Tensor& to) {
              cuda::Enqueue(on, [from, to] { ConvertOnHost(from, to); });
            }};
    GradientBuckets buckets(ThreeBuckets(*group), gradients, options);
    buckets.Begin(kAllRanges);
    cuda::Enqueue(*stream, [&gradients] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::fill_n(gradients.As<float>(), kCount, 1.5f);
    });
    for (const auto& range : kAllRanges) buckets.GradientReady(*stream, range.begin, range.count);
    for (int b = 0; b < 3; ++b) buckets.Wait(*stream, b);
    stream->Synchronize();
    for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(gradients.As<float>()[i], i < 90 ? 3.0f : 1.5f);
  });
}

}  // namespace
}  // namespace convoy
