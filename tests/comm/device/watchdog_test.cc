// When the watchdog ends a process, and how.
#include "comm/device/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace convoy {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Clock::time_point kStart{seconds(1000)};

// Reached when the test says so; the device may fail instead.
class FakeEvent final : public Event {
 public:
  void Synchronize() override {}
  bool Reached() override {
    if (fails) throw Error(ExitCode::kDevice, "cudaEventQuery failed on cuda:0");
    return reached;
  }
  double SecondsSince(const Event&) const override { return 0; }

  std::atomic<bool> reached{false}, fails{false};
};

class FakeCommunicator final : public WatchedCommunicator {
 public:
  const std::string& name() const override { return name_; }
  void Check() override {
    if (failure) throw *failure;
  }
  void Abort() override {
    ++aborts;
    if (abort_hangs.valid()) abort_hangs.wait();
  }

  std::optional<Error> failure;
  std::atomic<int> aborts{0};
  std::shared_future<void> abort_hangs;

 private:
  const std::string name_ = "replicas";
};

TEST(CollectiveHistory, WaitsSinceTheOldestWasQueued) {
  CollectiveHistory history("replicas");
  EXPECT_EQ(history.SecondsWaiting(kStart), 0);
  const auto first = std::make_shared<FakeEvent>(), second = std::make_shared<FakeEvent>();
  history.Add("fc8", 11, first, kStart);
  history.Add("fc6", 11, second, kStart + seconds(3));
  history.Update(kStart + seconds(5));
  EXPECT_EQ(history.SecondsWaiting(kStart + seconds(5)), 5);
  EXPECT_EQ(history.Describe(), "fc8 of step 11 in group replicas; done before: nothing");
}

TEST(CollectiveHistory, WhatIsDoneStartsTheClockAgain) {
  CollectiveHistory history("replicas");
  const auto first = std::make_shared<FakeEvent>(), second = std::make_shared<FakeEvent>();
  history.Add("fc8", 11, first, kStart);
  history.Add("fc6", 12, second, kStart);
  first->reached = true;
  history.Update(kStart + seconds(9));
  EXPECT_EQ(history.SecondsWaiting(kStart + seconds(10)), 1);
  EXPECT_EQ(history.Describe(), "fc6 of step 12 in group replicas; done before: fc8 of step 11");
  second->reached = true;
  history.Update(kStart + seconds(11));
  EXPECT_EQ(history.SecondsWaiting(kStart + seconds(100)), 0);
}

TEST(CollectiveHistory, NamesTheLastFewThatAreDoneAndForgetsTheirEvents) {
  CollectiveHistory history("replicas");
  std::weak_ptr<Event> last;
  for (int step = 0; step < 100; ++step) {
    const auto event = std::make_shared<FakeEvent>();
    event->reached = true;
    history.Add("conv", step, event, kStart);
    last = event;
  }
  history.Update(kStart);
  EXPECT_TRUE(last.expired());
  EXPECT_THAT(history.Describe(), AllOf(HasSubstr("no collective in group replicas"),
                                        HasSubstr("conv of step 99, conv of step 98"),
                                        Not(HasSubstr("conv of step 90"))));
}

// Returns a watchdog whose thread never wakes: the test asks for its judgement.
WatchdogOptions Asleep(double deadline_s) {
  return {.deadline_s = deadline_s, .poll_s = 1e6, .rank = 3, .host = "node17"};
}

TEST(Watchdog, CollectiveThatIsNotDoneInTimeIsThePeersFault) {
  Watchdog watchdog(Asleep(60));
  const auto communicator = std::make_shared<FakeCommunicator>();
  Watchdog::Membership member(watchdog, communicator);
  const auto event = std::make_shared<FakeEvent>();
  member.Add("all-reduce of fc6", 12, event);
  EXPECT_FALSE(watchdog.Judge(Clock::now() + seconds(30)));
  const std::optional<Error> error = watchdog.Judge(Clock::now() + seconds(61));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->exit_code(), ExitCode::kPeer);
  EXPECT_THAT(error->message(), AllOf(HasSubstr("waited 61."),
                                      HasSubstr("all-reduce of fc6 of step 12 in group replicas")));
  event->reached = true;
  EXPECT_FALSE(watchdog.Judge(Clock::now() + seconds(1000)));
}

TEST(Watchdog, NamesTheGroupThatHasWaitedLongest) {
  Watchdog watchdog(Asleep(60));
  const auto communicator = std::make_shared<FakeCommunicator>();
  Watchdog::Membership replicas(watchdog, communicator), towers(watchdog, communicator);
  towers.Add("activations", 12, std::make_shared<FakeEvent>());
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  replicas.Add("all-reduce of fc6", 12, std::make_shared<FakeEvent>());
  const std::optional<Error> error = watchdog.Judge(Clock::now() + seconds(61));
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("activations"));
}

TEST(Watchdog, DeadlineOfZeroWaitsForEver) {
  Watchdog watchdog(Asleep(0));
  Watchdog::Membership member(watchdog, std::make_shared<FakeCommunicator>());
  member.Add("all-reduce", 1, std::make_shared<FakeEvent>());
  const StepWatch wait(&watchdog, 1);
  EXPECT_FALSE(watchdog.Judge(Clock::now() + std::chrono::hours(1000)));
}

TEST(Watchdog, WhatTheCommunicatorReportsCountsWithoutADeadline) {
  Watchdog watchdog(Asleep(0));
  const auto communicator = std::make_shared<FakeCommunicator>();
  Watchdog::Membership member(watchdog, communicator);
  member.Add("all-reduce of fc6", 12, std::make_shared<FakeEvent>());
  communicator->failure.emplace(ExitCode::kPeer, "remote process exited");
  const std::optional<Error> error = watchdog.Judge(Clock::now());
  ASSERT_TRUE(error);
  EXPECT_EQ(error->exit_code(), ExitCode::kPeer);
  EXPECT_THAT(error->message(), AllOf(HasSubstr("remote process exited; under way: "),
                                      HasSubstr("all-reduce of fc6 of step 12")));
}

TEST(Watchdog, DeviceFaultIsNotThePeersFault) {
  Watchdog watchdog(Asleep(60));
  Watchdog::Membership member(watchdog, std::make_shared<FakeCommunicator>());
  const auto event = std::make_shared<FakeEvent>();
  member.Add("all-reduce of fc6", 12, event);
  event->fails = true;
  // Even if the collective is late as well.
  const std::optional<Error> error = watchdog.Judge(Clock::now() + seconds(100));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->exit_code(), ExitCode::kDevice);
  EXPECT_THAT(error->message(), HasSubstr("cudaEventQuery failed on cuda:0"));
}

TEST(Watchdog, WaitForAStepHasTheSameDeadline) {
  Watchdog watchdog(Asleep(60));
  Watchdog::Membership member(watchdog, std::make_shared<FakeCommunicator>());
  {
    const StepWatch wait(&watchdog, 12);
    EXPECT_FALSE(watchdog.Judge(Clock::now() + seconds(30)));
    const std::optional<Error> error = watchdog.Judge(Clock::now() + seconds(61));
    ASSERT_TRUE(error);
    EXPECT_EQ(error->exit_code(), ExitCode::kPeer);
    EXPECT_THAT(error->message(), AllOf(HasSubstr("step 12"), HasSubstr("group replicas")));
  }
  EXPECT_FALSE(watchdog.Judge(Clock::now() + seconds(61)));
}

TEST(Watchdog, WithoutCommunicatorsALateStepIsTheDevicesFault) {
  Watchdog watchdog(Asleep(60));
  const StepWatch wait(&watchdog, 12);
  const std::optional<Error> error = watchdog.Judge(Clock::now() + seconds(61));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->exit_code(), ExitCode::kDevice);
}

TEST(Watchdog, StepWatchNeedsNoWatchdog) { const StepWatch wait(nullptr, 12); }

// What a watchdog that polls all the time says and does in the end.
struct Ended {
  std::promise<ExitCode> code;
  std::string line;

  WatchdogOptions Options() {
    return {.deadline_s = 0.05,
            .abort_s = 0.05,
            .poll_s = 0.01,
            .rank = 3,
            .host = "node17",
            .describe_peers = [] { return "rank 2 (node16): step 11"; },
            .print = [this](const std::string& text) { line = text; },
            .end = [this](ExitCode exit_code) { code.set_value(exit_code); }};
  }
};

TEST(Watchdog, SaysOneLineAbortsAndEndsTheProcess) {
  Ended ended;
  const auto communicator = std::make_shared<FakeCommunicator>();
  Watchdog watchdog(ended.Options());
  Watchdog::Membership member(watchdog, communicator);
  member.Add("all-reduce of fc6", 12, std::make_shared<FakeEvent>());
  EXPECT_EQ(ended.code.get_future().get(), ExitCode::kPeer);
  EXPECT_THAT(ended.line,
              AllOf(HasSubstr("rank 3 (node17): waited "),
                    HasSubstr("all-reduce of fc6 of step 12 in group replicas"),
                    HasSubstr("; ranks: rank 2 (node16): step 11"), Not(HasSubstr("\n"))));
  EXPECT_EQ(communicator->aborts, 1);
}

TEST(Watchdog, AbortThatHangsKeepsNobody) {
  Ended ended;
  std::promise<void> release;
  const auto communicator = std::make_shared<FakeCommunicator>();
  communicator->abort_hangs = release.get_future().share();
  {
    Watchdog watchdog(ended.Options());
    Watchdog::Membership member(watchdog, communicator);
    member.Add("all-reduce", 1, std::make_shared<FakeEvent>());
    EXPECT_EQ(ended.code.get_future().get(), ExitCode::kPeer);
  }
  release.set_value();
}

TEST(WatchdogDeathTest, EndsTheProcessWithTheCodeOfAPeer) {
  // In a process of its own, which the default end takes away at once.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        Watchdog watchdog({.deadline_s = 0.05, .poll_s = 0.01, .rank = 3, .host = "node17"});
        Watchdog::Membership member(watchdog, std::make_shared<FakeCommunicator>());
        member.Add("all-reduce of fc6", 12, std::make_shared<FakeEvent>());
        std::this_thread::sleep_for(seconds(300));
      },
      ::testing::ExitedWithCode(static_cast<int>(ExitCode::kPeer)),
      "convoy: error: rank 3 \\(node17\\): waited .* all-reduce of fc6");
}

}  // namespace
}  // namespace convoy
