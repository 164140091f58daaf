// Faults that a device would show now and then, or never say: the emulation shows each every time.
#include "tests/emulation/recording.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "core/cuda/runtime.h"
#include "core/error.h"
#include "layers/cuda/kernels/launch.h"
#include "tests/backend/tested.h"
#include "tests/emulation/unguarded_memory.h"
#include "tests/trainer/small_run.h"

namespace convoy::cuda {
namespace {

// A step on two streams: main doubles what it is given, side adds one to that, main doubles again.
class TwoStreams {
 public:
  // What is called in the middle of the recording, on the recording thread.
  std::function<void()> on_record = [] {};
  bool joins = true;

  void Record() {
    recorded_ = cuda::Record(*main_, [this] {
      const auto begin = main_->Record();
      Enqueue(*main_, [this] { doubled_ = 2 * given_; });
      side_->WaitFor(*begin);
      side_->WaitFor(*main_->Record());
      Enqueue(*side_, [this] { added_ = doubled_ + 1; });
      on_record();
      if (joins) main_->WaitFor(*side_->Record());
      Enqueue(*main_, [this] { result_ = 2 * added_; });
    });
  }
  // Returns how many of `steps` replays give what they should.
  int RightReplays(int steps) {
    int right = 0;
    for (int step = 1; step <= steps; ++step) {
      given_ = 100 * step;
      recorded_->Queue(*main_);
      main_->Synchronize();
      right += result_ == 2 * (2 * given_ + 1) ? 1 : 0;
    }
    return right;
  }

 private:
  std::unique_ptr<Stream> main_ = MakeStream(0), side_ = MakeStream(0);
  std::unique_ptr<RecordedWork> recorded_;
  int given_ = 0, doubled_ = 0, added_ = 0, result_ = 0;
};

// Returns what Record throws.
std::string FaultOf(TwoStreams& step) {
  try {
    step.Record();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
    return error.message();
  }
  return {};
}

class LostWait {
 public:
  explicit LostWait(int index) { Recording::LoseWait(index); }
  ~LostWait() { Recording::LoseWait(-1); }
};

TEST(Recording, ReplaysWhatWasQueued) {
  TwoStreams step;
  step.Record();
  EXPECT_EQ(step.RightReplays(4), 4);
}

TEST(Recording, ALostWaitGivesWrongResults) {
  // Wait 0 joins the stream; 1 and 2 order the work.
  for (const int index : {1, 2}) {
    const LostWait lost(index);
    TwoStreams step;
    const std::string fault = FaultOf(step);
    if (fault.empty()) {
      EXPECT_LT(step.RightReplays(4), 4) << "wait " << index;
    } else {
      EXPECT_NE(fault.find("not joined"), std::string::npos) << fault;
    }
  }
}

TEST(Recording, AStreamThatIsNotJoinedIsRefused) {
  TwoStreams step;
  step.joins = false;
  EXPECT_NE(FaultOf(step).find("a stream that took part was not joined"), std::string::npos);
}

TEST(Recording, WhatCudaForbidsMeanwhileIsRefused) {
  TwoStreams step;
  const auto other = MakeStream(0);
  const auto event = other->Record();
  const std::pair<std::function<void()>, const char*> forbidden[] = {
      {[] { AllocateDevice(0, 64); }, "memory is allocated"},
      {[] { AllocatePinned(0, 64); }, "memory is allocated"},
      {[&] { other->Synchronize(); }, "the host waits for a stream"},
      {[&] { event->Synchronize(); }, "the host waits for an event"},
      {[&] { event->Reached(); }, "the host asks for an event"}};
  for (const auto& [call, words] : forbidden) {
    step.on_record = call;
    EXPECT_NE(FaultOf(step).find(words), std::string::npos) << words;
    // Whoever catches the error has a recording that is no good all the same.
    step.on_record = [&call = call] { EXPECT_THROW(call(), Error); };
    EXPECT_NE(FaultOf(step).find(words), std::string::npos) << words;
  }
  Buffer freed = AllocateDevice(0, 64);
  step.on_record = [&freed] { freed = {}; };
  EXPECT_NE(FaultOf(step).find("memory is freed"), std::string::npos);
}

// As ncclMemFree does it.
TEST(Recording, MemoryThatIsFreedTooEarlyHoldsNoNumbers) {
  for (const bool waits : {true, false}) {
    const auto stream = MakeStream(0);
    Buffer memory = AllocateUnguarded(0, sizeof(float));
    auto* const value = static_cast<float*>(memory.data());
    *value = 1;
    std::promise<void> freed;
    float seen = 0;
    Enqueue(*stream, [&, may_run = freed.get_future().share()] {
      if (!waits) may_run.wait();
      seen = *value;
    });
    if (waits) stream->Synchronize();
    memory = {};
    freed.set_value();
    stream->Synchronize();
    EXPECT_EQ(std::isnan(seen), !waits);
  }
}

// A real step: forward, backward, updates beside it. Every wait between its streams is needed, so
// without any one of them the run ends differently, or its recording is refused.
TEST(Recording, EveryWaitOfATrainingStepCounts) {
  SmallRunOptions options{
      .lr = 0.02, .make_backend = [] { return MakeTestedBackend(1); }, .dtype = DType::kFloat32};
  const RunResult right = RunSmall({1, 1}, options);
  options.make_backend = [&] { return MakeTestedBackend(1, right.kernel_choices); };
  ASSERT_TRUE(RunSmall({1, 1}, options).weights == right.weights);
  // One for each bucket, which also joins the stream of updates, and one for the end.
  constexpr int kWaits = 4;
  for (int index = 0; index < kWaits; ++index) {
    const LostWait lost(index);
    const RunResult run = RunSmall({1, 1}, options);
    EXPECT_TRUE(run.weights != right.weights || run.why_not_recorded != "") << "wait " << index;
  }
  const LostWait none(kWaits);
  const RunResult run = RunSmall({1, 1}, options);
  EXPECT_TRUE(run.weights == right.weights) << "the step has more waits";
  EXPECT_EQ(run.why_not_recorded, "");
}

}  // namespace
}  // namespace convoy::cuda
