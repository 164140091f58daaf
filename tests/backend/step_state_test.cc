// What changes from step to step, on the emulated device.
#include "layers/cuda/step_state.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace convoy::cuda {
namespace {

const std::vector<UpdateRange> kRanges = {
    {.begin = 0, .count = 10, .lr = 0.5, .momentum = 0.9},
    {.begin = 10, .count = 20, .lr = 0.25, .weight_decay = 0.125},
    {.begin = 30, .count = 5, .lr = 0.5},
    {.begin = 64, .count = 1}};

class StepStateTest : public testing::Test {
 protected:
  // Where the device keeps `ranges`, which must be what it holds there.
  const DeviceUpdateRange* Find(std::span<const UpdateRange> ranges) {
    const DeviceUpdateRange* found = state_.RangesFor(*stream_, ranges);
    std::vector<DeviceUpdateRange> held(ranges.size());
    stream_->Copy(held.data(), found,
                  std::ssize(held) * static_cast<int64_t>(sizeof(DeviceUpdateRange)));
    stream_->Synchronize();
    for (size_t i = 0; i < held.size(); ++i) {
      EXPECT_EQ(held[i],
                (DeviceUpdateRange{.begin = ranges[i].begin,
                                   .count = ranges[i].count,
                                   .lr = static_cast<float>(ranges[i].lr),
                                   .momentum = static_cast<float>(ranges[i].momentum),
                                   .weight_decay = static_cast<float>(ranges[i].weight_decay)}));
    }
    return found;
  }
  // Queues a copy of the values that a kernel queued now would see.
  void CopyValues(StepValues& to) {
    stream_->Copy(&to, state_.device_values(), static_cast<int64_t>(sizeof(to)));
  }

  StepState state_{0};
  std::unique_ptr<Stream> stream_ = MakeStream(0);
};

TEST_F(StepStateTest, FindsNeighboursAmongTheRanges) {
  const std::span<const UpdateRange> all = kRanges;
  state_.SetRanges(*stream_, all);
  const DeviceUpdateRange* first = Find(all);
  EXPECT_EQ(Find(all.first(2)), first);
  EXPECT_EQ(Find(all.subspan(1, 2)), first + 1);
  EXPECT_EQ(Find(all.last(1)), first + 3);
}

TEST_F(StepStateTest, SetsRangesThatItDoesNotHold) {
  const std::span<const UpdateRange> all = kRanges;
  Find(all.first(2));
  Find(all.subspan(1));
  Find(std::vector<UpdateRange>{kRanges[3], kRanges[0]});
}

TEST_F(StepStateTest, RefusesToRecordAnUpdateOfRangesThatItDoesNotHold) {
  state_.SetRanges(*stream_, kRanges);
  EXPECT_NO_THROW(Record(*stream_, [&] { state_.RangesFor(*stream_, kRanges); }));
  const std::vector<UpdateRange> others = {{.begin = 7, .count = 7}};
  EXPECT_THROW(Record(*stream_, [&] { state_.RangesFor(*stream_, others); }), Error);
}

TEST_F(StepStateTest, LeavesAStepThatIsUnderWayItsValues) {
  std::vector<StepValues> seen(50);
  for (size_t i = 0; i < seen.size(); ++i) {
    state_.SetValues(*stream_, {.seed = i, .epoch = 3, .loss_scale = 0.5});
    CopyValues(seen[i]);
  }
  stream_->Synchronize();
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i], (StepValues{.seed = i, .epoch = 3, .loss_scale = 0.5})) << i;
  }
}

TEST_F(StepStateTest, RecordsNoValues) {
  state_.SetValues(*stream_, {.seed = 1});
  const auto recorded = Record(*stream_, [&] { state_.SetValues(*stream_, {.seed = 2}); });
  recorded->Queue(*stream_);
  StepValues seen;
  CopyValues(seen);
  stream_->Synchronize();
  EXPECT_EQ(seen.seed, 1u);
}

}  // namespace
}  // namespace convoy::cuda
