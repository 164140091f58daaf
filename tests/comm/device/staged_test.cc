// Collectives of device memory by way of host memory, over the emulated device.
#include "comm/device/staged.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/launch.h"
#include "tests/comm/collective_checks.h"
#include "tests/comm/group_world.h"

namespace convoy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::unique_ptr<Stream> MakeDeviceStream() { return cuda::MakeStream(0); }

std::unique_ptr<Communicator> MakeStagedOf(World& world) {
  return MakeStaged(world.Split("devices", 0, world.rank()),
                    {.name = "devices", .make_stream = MakeDeviceStream});
}

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

std::string MessageOf(ExitCode exit_code, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), exit_code) << error.what();
    return error.message();
  }
  return {};
}

struct Case {
  int ranks;
  bool emulated;  // streams of the emulated device; otherwise the host's
  CollectiveCheck check;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.ranks << " ranks"; }

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const int ranks : {1, 2, 4}) {
    for (const bool emulated : {false, true}) {
      for (const CollectiveCheck& check : CollectiveChecks()) {
        cases.push_back({ranks, emulated, check});
      }
      for (const CollectiveCheck& check : GroupChecks()) cases.push_back({ranks, emulated, check});
    }
  }
  return cases;
}

std::string NameOfCase(const ::testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_{}{}", info.param.check.name, info.param.ranks,
                     info.param.emulated ? "Emulated" : "Host");
}

class StagedChecks : public ::testing::TestWithParam<Case> {};

TEST_P(StagedChecks, DoesWhatTheCheckWants) {
  StagedOptions options{.name = "staged", .make_stream = MakeDeviceStream};
  if (!GetParam().emulated) options.make_stream = [] { return std::make_unique<HostStream>(); };
  RunAsThreads(GetParam().ranks, {.deadline_s = 0}, [&](World& world) {
    GroupWorld staged(world, [&](const std::string& name, int colour, int key) {
      return MakeStaged(world.Split(name, colour, key), options);
    });
    GetParam().check.run(staged);
  });
}

INSTANTIATE_TEST_SUITE_P(Collectives, StagedChecks, ::testing::ValuesIn(Cases()), NameOfCase);

TEST(Staged, RunsBetweenTheWorkBeforeTheCallAndTheWorkAfterTheWait) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    const auto group = MakeStagedOf(world);
    const auto stream = cuda::MakeStream(0);
    std::vector<float> data(5000), seen(5000);
    for (int round = 1; round <= 3; ++round) {
      cuda::Enqueue(*stream, [&data, round, rank = world.rank()] {
        for (int i = 0; i < 20; ++i) Pause();
        std::fill(data.begin(), data.end(), static_cast<float>(round + rank));
      });
      Request request = group->AllReduce(*stream, {data.data(), DType::kFloat32, {5000}},
                                         ReduceOp::kSum, "all-reduce");
      request.Wait(*stream);
      cuda::Enqueue(*stream, [&data, &seen] { seen = data; });
      stream->Synchronize();
      EXPECT_EQ(seen, std::vector<float>(5000, static_cast<float>(2 * round + 1)));
    }
  });
}

TEST(Staged, BitsAreThoseOfTheHostsCommunicator) {
  constexpr int64_t kCount = 2600003;  // three pieces of two ranks
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    const auto group = MakeStagedOf(world);
    const auto stream = cuda::MakeStream(0);
    std::vector<float> on_host(kCount);
    for (int64_t i = 0; i < kCount; ++i) {
      on_host[static_cast<size_t>(i)] =
          (static_cast<float>(i % 977) + 0.1f) / static_cast<float>(i % 31 + world.rank() + 1);
    }
    std::vector<float> staged = on_host;
    const Shape shape{kCount};
    group->AllReduce(*stream, {staged.data(), DType::kFloat32, shape}, ReduceOp::kSum, "sum")
        .Wait(*stream);
    HostStream host_stream;
    world.all()
        .AllReduce(host_stream, {on_host.data(), DType::kFloat32, shape}, ReduceOp::kSum, "sum")
        .Wait(host_stream);
    stream->Synchronize();
    EXPECT_EQ(std::memcmp(on_host.data(), staged.data(), kCount * sizeof(float)), 0);
  });
}

TEST(Staged, LargeArraysGoThroughTwoPieces) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    int64_t allocated = 0;
    const auto group = MakeStaged(world.Split("devices", 0, world.rank()),
                                  {.name = "devices",
                                   .make_stream = MakeDeviceStream,
                                   .allocate_pinned = [&allocated](int64_t bytes) {
                                     allocated += bytes;
                                     return AllocateHost(bytes);
                                   }});
    const auto stream = cuda::MakeStream(0);
    std::vector<double> data(5 << 20, 1.0);
    const Tensor tensor{data.data(), DType::kFloat64, {5 << 20}};
    group->AllReduce(*stream, tensor, ReduceOp::kSum, "sum").Wait(*stream);
    group->Broadcast(*stream, tensor, 1, "broadcast").Wait(*stream);
    stream->Synchronize();
    EXPECT_LE(allocated, 8 << 20);
    EXPECT_EQ(data.back(), 2.0);
  });
}

TEST(Staged, CallerGoesOnWhileTwoCollectivesAreUnderWay) {
  std::atomic<bool> both_called{false};
  RunAsThreads(2, {.deadline_s = 0}, [&](World& world) {
    const auto group = MakeStagedOf(world);
    const auto stream = cuda::MakeStream(0);
    std::vector<int32_t> a(1000, 1), b(1000, 10);
    const Tensor first{a.data(), DType::kInt32, {1000}}, second{b.data(), DType::kInt32, {1000}};
    while (world.rank() == 1 && !both_called) Pause();
    Request one = group->AllReduce(*stream, first, ReduceOp::kSum, "first");
    Request two = group->AllReduce(*stream, second, ReduceOp::kSum, "second");
    if (world.rank() == 0) {
      EXPECT_FALSE(one.Done());
      EXPECT_FALSE(two.Done());
      both_called = true;
    }
    while (!two.Done()) Pause();
    EXPECT_TRUE(one.Done());  // in the order of the calls
    two.Wait(*stream);
    one.Wait(*stream);
    stream->Synchronize();
    EXPECT_EQ(a.back(), 2);
    EXPECT_EQ(b.back(), 20);
  });
}

TEST(Staged, DroppedRequestIsDoneWithItsMemory) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    const auto group = MakeStagedOf(world);
    const auto stream = cuda::MakeStream(0);
    std::vector<int32_t> data(100000, 1);
    { group->AllReduce(*stream, {data.data(), DType::kInt32, {100000}}, ReduceOp::kSum, "sum"); }
    EXPECT_EQ(data, std::vector<int32_t>(100000, 2));
  });
}

TEST(Staged, BarrierWaitsForEveryRank) {
  std::atomic<int> here{0};
  RunAsThreads(4, {.deadline_s = 0}, [&](World& world) {
    const auto group = MakeStagedOf(world);
    ++here;
    group->Barrier("barrier");
    EXPECT_EQ(here, 4);
    EXPECT_FALSE(group->queues_on_device());
  });
}

TEST(Staged, LateRankIsNamedAsTheHostNamesIt) {
  std::atomic<bool> given_up{false};
  RunAsThreads(2, {.deadline_s = 2}, [&](World& world) {
    world.SetStep(7);
    const auto group = MakeStagedOf(world);
    const auto stream = cuda::MakeStream(0);
    std::vector<float> data(10);
    const auto call = [&] {
      group
          ->AllReduce(*stream, {data.data(), DType::kFloat32, {10}}, ReduceOp::kSum,
                      "all-reduce of fc6")
          .Wait(*stream);
    };
    if (world.rank() == 0) {
      EXPECT_THAT(MessageOf(ExitCode::kPeer, call),
                  AllOf(HasSubstr("all-reduce of fc6 in group devices at step 7"),
                        HasSubstr("missing: rank 1 (")));
      EXPECT_NE(MessageOf(ExitCode::kPeer, call), "");
      given_up = true;
    } else {
      while (!given_up) Pause();
      EXPECT_NE(MessageOf(ExitCode::kPeer, call), "");
    }
  });
}

TEST(Staged, ExceptionOnARankGivesTheGroupUp) {
  EXPECT_THROW(RunAsThreads(2, {.deadline_s = 0},
                            [](World& world) {
                              const auto group = MakeStagedOf(world);
                              const auto stream = cuda::MakeStream(0);
                              std::vector<float> data(10);
                              const Tensor tensor{data.data(), DType::kFloat32, {10}};
                              if (world.rank() == 0) {
                                const Request request = group->AllReduce(
                                    *stream, tensor, ReduceOp::kSum, "never complete");
                                throw std::out_of_range("a reason of its own");
                              }
                              group->Broadcast(*stream, tensor, 0, "never comes").Wait(*stream);
                            }),
               std::out_of_range);
}

// A device that fails at its second copy.
class FailingStream final : public Stream {
 public:
  Device device() const override { return {DeviceKind::kCuda, 0}; }
  std::unique_ptr<Event> Record() override { return host_.Record(); }
  void WaitFor(Event&) override {}
  void Synchronize() override {}
  void Copy(void* to, const void* from, int64_t bytes) override {
    if (++copies_ == 2) throw Error(ExitCode::kDevice, "the copy failed on cuda:0");
    host_.Copy(to, from, bytes);
  }
  void* native_handle() const override { return nullptr; }

 private:
  HostStream host_;
  int copies_ = 0;
};

TEST(Staged, DeviceFaultReachesTheCallerAndEndsTheGroup) {
  const auto world = MakeSelfWorld();
  const auto group = MakeStaged(
      world->Split("devices", 0, 0),
      {.name = "devices", .make_stream = [] { return std::make_unique<FailingStream>(); }});
  HostStream stream;
  float value = 0;
  for (int call = 0; call < 2; ++call) {
    EXPECT_EQ(
        MessageOf(ExitCode::kDevice,
                  [&] {
                    group->AllReduce(stream, {&value, DType::kFloat32, {1}}, ReduceOp::kSum, "sum")
                        .Wait(stream);
                  }),
        "the copy failed on cuda:0");
  }
}

TEST(Staged, StreamThatCannotBeMadeIsReportedAtOnce) {
  const auto world = MakeSelfWorld();
  const auto make = [&] {
    MakeStaged(world->Split("devices", 0, 0),
               {.name = "devices", .make_stream = []() -> std::unique_ptr<Stream> {
                  throw Error(ExitCode::kDevice, "no stream");
                }});
  };
  EXPECT_EQ(MessageOf(ExitCode::kDevice, make), "no stream");
}

}  // namespace
}  // namespace convoy
