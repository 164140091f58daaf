// What changes from step to step, on the emulated device.
#include "layers/cuda/step_state.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace convoy::cuda {
namespace {

class StepStateTest : public testing::Test {
 protected:
  // Queues a copy of the values that a kernel queued now would see.
  void CopyValues(StepValues& to) {
    stream_->Copy(&to, state_.device_values(), static_cast<int64_t>(sizeof(to)));
  }

  StepState state_{0};
  std::unique_ptr<Stream> stream_ = MakeStream(0);
};

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
