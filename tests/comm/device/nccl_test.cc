// What surrounds NCCL's own calls, over the emulated device: host threads play the NCCL group.
#include "comm/device/nccl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>

#include "comm/grid.h"
#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/launch.h"
#include "tests/comm/collective_checks.h"
#include "tests/comm/group_world.h"

namespace convoy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

// Its stream's thread runs the collectives of a host communicator.
class EmulatedNcclGroup final : public NcclGroup {
 public:
  explicit EmulatedNcclGroup(std::unique_ptr<Communicator> ranks)
      : ranks_(std::move(ranks)), stream_(cuda::MakeStream(0, cuda::Priority::kHigh)) {}

  const std::string& name() const override { return name_; }
  void Connect(const NcclId&) override {}
  Queued Queue(Stream& stream, const Collective& collective) override {
    if (aborts > 0) throw Error(ExitCode::kPeer, "the group has been given up");
    Queued queued;
    if (stream.device().kind == DeviceKind::kCuda) {
      queued.recorded = cuda::IsRecording(stream);
      stream_->WaitFor(*stream.Record());
    }
    cuda::Enqueue(*stream_, [this, collective] { Run(collective); });
    queued.done = stream_->Record();
    return queued;
  }
  Buffer AllocateRegistered(int64_t bytes) override { return cuda::AllocateDevice(0, bytes); }
  void Finalise() override {
    ++finalised;
    stream_->Synchronize();
  }
  void Check() override {}
  void Abort() override {
    ++aborts;
    ranks_->GiveUp("aborted");
  }

  std::atomic<int> finalised{0}, aborts{0};

 private:
  void Run(const Collective& collective) {
    try {
      ranks_->Run(host_, collective).Wait(host_);
    } catch (const Error&) {
      // If a peer is lost, a device waits, or is freed by an abort. It never says so.
    }
  }

  const std::string name_ = "replicas";
  const std::unique_ptr<Communicator> ranks_;
  HostStream host_;
  const std::unique_ptr<Stream> stream_;
};

// A rank's communicator and what it stands on.
struct Rank {
  explicit Rank(World& world, WatchdogOptions watchdog_options = {.deadline_s = 0})
      : host(world.Split("host", 0, world.rank())),
        watchdog(std::move(watchdog_options)),
        group(std::make_shared<EmulatedNcclGroup>(world.Split("replicas", 0, world.rank()))),
        communicator(MakeNcclOf(group, *host, watchdog,
                                {.name = "replicas", .step = [&world] { return world.step(); }})),
        stream(cuda::MakeStream(0)) {}

  Request Sum(std::vector<int32_t>& data, const char* what) {
    const Tensor tensor{data.data(), DType::kInt32, {static_cast<int64_t>(data.size())}};
    return communicator->AllReduce(*stream, tensor, ReduceOp::kSum, what);
  }

  std::unique_ptr<Communicator> host;
  Watchdog watchdog;
  std::shared_ptr<EmulatedNcclGroup> group;
  std::unique_ptr<Communicator> communicator;
  std::unique_ptr<Stream> stream;
};

TEST(Nccl, EveryCheckOfCollectivesHolds) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    Watchdog watchdog({.deadline_s = 0});
    std::vector<std::unique_ptr<Communicator>> hosts;
    GroupWorld devices(world, [&](const std::string& name, int colour, int key) {
      hosts.push_back(world.Split(name + " (host)", colour, key));
      return MakeNcclOf(std::make_shared<EmulatedNcclGroup>(world.Split(name, colour, key)),
                        *hosts.back(), watchdog, {.name = name, .step = [] { return 0; }});
    });
    for (const CollectiveCheck& check : CollectiveChecks()) check.run(devices);
    for (const CollectiveCheck& check : GroupChecks()) check.run(devices);
  });
}

TEST(Nccl, CallAndWaitNeverBlockTheHost) {
  std::atomic<bool> waited{false};
  RunAsThreads(2, {.deadline_s = 0}, [&](World& world) {
    Rank rank(world);
    std::vector<int32_t> data(1000), seen;
    cuda::Enqueue(*rank.stream, [&] { std::fill(data.begin(), data.end(), world.rank() + 1); });
    while (world.rank() == 1 && !waited) Pause();
    Request request = rank.Sum(data, "sum");
    if (world.rank() == 0) {
      EXPECT_FALSE(request.Done());
    }
    request.Wait(*rank.stream);
    waited = true;
    cuda::Enqueue(*rank.stream, [&] { seen = data; });
    rank.stream->Synchronize();
    EXPECT_EQ(seen, std::vector<int32_t>(1000, 3));
    EXPECT_TRUE(rank.communicator->queues_on_device());
  });
}

TEST(Nccl, CanBeRecordedAndQueuedAgain) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    Rank rank(world);
    std::vector<int32_t> data(1000, 1);
    const auto step = cuda::Record(*rank.stream, [&] {
      Request request = rank.Sum(data, "sum");
      EXPECT_FALSE(request.Done());
      request.Wait(*rank.stream);
    });
    for (int i = 0; i < 3; ++i) step->Queue(*rank.stream);
    rank.stream->Synchronize();
    EXPECT_EQ(data, std::vector<int32_t>(1000, 8));
    // No event of the recording is under watch, and what comes after it is not recorded.
    EXPECT_FALSE(rank.watchdog.Judge(Clock::now()));
    rank.Sum(data, "sum").Wait(*rank.stream);
    rank.stream->Synchronize();
    EXPECT_EQ(data, std::vector<int32_t>(1000, 16));
  });
}

TEST(Nccl, DroppedRequestIsDoneWithItsMemory) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    Rank rank(world);
    std::vector<int32_t> data(100000, 1);
    { const Request request = rank.Sum(data, "sum"); }
    EXPECT_EQ(data, std::vector<int32_t>(100000, 2));
  });
}

TEST(Nccl, BarrierGoesThroughTheHost) {
  std::atomic<int> here{0};
  RunAsThreads(4, {.deadline_s = 0}, [&](World& world) {
    Rank rank(world);
    ++here;
    rank.communicator->Barrier("barrier");
    EXPECT_EQ(here, 4);
  });
}

TEST(Nccl, EndsInOrderWithoutAnExceptionAndAbortsWithOne) {
  const auto world = MakeSelfWorld();
  {
    Rank rank(*world);
    rank.communicator.reset();
    EXPECT_EQ(rank.group->finalised, 1);
    EXPECT_EQ(rank.group->aborts, 0);
  }
  std::shared_ptr<EmulatedNcclGroup> group;
  try {
    const Rank rank(*world);
    group = rank.group;
    throw std::out_of_range("a reason of its own");
  } catch (const std::out_of_range&) {
    EXPECT_EQ(group->finalised, 0);
    EXPECT_EQ(group->aborts, 1);
  }
}

TEST(Nccl, NothingIsQueuedOnceTheGroupIsGivenUp) {
  const auto world = MakeSelfWorld();
  Rank rank(*world);
  std::vector<int32_t> data(10);
  rank.communicator->GiveUp("the test says so");
  EXPECT_THROW(rank.Sum(data, "sum"), Error);
}

TEST(Nccl, WatchdogEndsARankWhosePeerNeverComes) {
  std::promise<ExitCode> ended;
  std::string line;
  std::atomic<bool> over{false};
  RunAsThreads(2, {.deadline_s = 0}, [&](World& world) {
    world.SetStep(12);
    WatchdogOptions options{.deadline_s = 0};
    if (world.rank() == 0) {
      options = {.deadline_s = 0.1,
                 .poll_s = 0.01,
                 .rank = world.rank(),
                 .host = "node17",
                 .print = [&](const std::string& text) { line = text; },
                 .end = [&](ExitCode code) { ended.set_value(code); }};
    }
    Rank rank(world, options);
    if (world.rank() == 0) {
      std::vector<int32_t> data(10);
      rank.Sum(data, "all-reduce of fc6").Wait(*rank.stream);
      EXPECT_EQ(ended.get_future().get(), ExitCode::kPeer);
      EXPECT_THAT(line, AllOf(HasSubstr("rank 0 (node17): waited"),
                              HasSubstr("all-reduce of fc6 of step 12 in group replicas")));
      EXPECT_EQ(rank.group->aborts, 1);
      over = true;
    }
    while (!over) Pause();
  });
}

TEST(Nccl, VersionsAreNamedAsPeopleNameThem) { EXPECT_EQ(NameOfNcclVersion(22809), "2.28.9"); }

}  // namespace
}  // namespace convoy
