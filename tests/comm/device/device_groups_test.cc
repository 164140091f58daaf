// Which communicator connects the devices, and grids of devices.
#include "comm/device/device_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/launch.h"

namespace convoy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<RankDevice> OneDeviceEach(int version) {
  return {{.host = "node1", .uuid = "GPU-a", .nccl_version = version},
          {.host = "node1", .uuid = "GPU-b", .nccl_version = version},
          {.host = "node2", .uuid = "GPU-a", .nccl_version = version}};
}

std::vector<RankDevice> TwoOnOne(int version, bool allowed) {
  std::vector<RankDevice> ranks = OneDeviceEach(version);
  ranks[2].host = "node1";
  for (RankDevice& rank : ranks) rank.shares_allowed = allowed;
  return ranks;
}

Error UsageErrorOf(CommunicatorKind asked, const std::vector<RankDevice>& ranks) {
  try {
    ChooseCommunicator(asked, ranks);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    return error;
  }
  ADD_FAILURE() << "did not throw";
  return Error(ExitCode::kDefect, "");
}

TEST(ChooseCommunicator, NcclWhereEveryRankHasADevice) {
  for (const CommunicatorKind asked : {CommunicatorKind::kAuto, CommunicatorKind::kNccl}) {
    const CommunicatorChoice choice = ChooseCommunicator(asked, OneDeviceEach(22809));
    EXPECT_TRUE(choice.nccl);
    EXPECT_EQ(choice.reason, "NCCL 2.28.9: every rank has a device of its own");
  }
}

TEST(ChooseCommunicator, HostMemoryWhereRanksShareADevice) {
  const CommunicatorChoice old = ChooseCommunicator(CommunicatorKind::kAuto, TwoOnOne(22809, true));
  EXPECT_FALSE(old.nccl);
  EXPECT_THAT(old.reason, AllOf(HasSubstr("by way of host memory: ranks 0 and 2 share GPU-a"),
                                HasSubstr("NCCL 2.28.9")));
  const CommunicatorChoice untold =
      ChooseCommunicator(CommunicatorKind::kAuto, TwoOnOne(23003, false));
  EXPECT_FALSE(untold.nccl);
  EXPECT_THAT(untold.reason, HasSubstr("only where NCCL_MULTI_RANK_GPU_ENABLE is 1"));
}

TEST(ChooseCommunicator, NcclWhereItMayConnectRanksOfOneDevice) {
  for (const CommunicatorKind asked : {CommunicatorKind::kAuto, CommunicatorKind::kNccl}) {
    const CommunicatorChoice choice = ChooseCommunicator(asked, TwoOnOne(23003, true));
    EXPECT_TRUE(choice.nccl);
    EXPECT_THAT(choice.reason, HasSubstr("NCCL 2.30.3: ranks 0 and 2 share GPU-a of node1"));
  }
  std::vector<RankDevice> ranks = TwoOnOne(23003, true);
  ranks[1].shares_allowed = false;  // every rank has to allow it
  EXPECT_FALSE(ChooseCommunicator(CommunicatorKind::kAuto, ranks).nccl);
}

TEST(ChooseCommunicator, HostMemoryWhereItIsAskedFor) {
  // Versions do not matter then, nor whether there is an NCCL.
  std::vector<RankDevice> ranks = OneDeviceEach(0);
  ranks[1].nccl_version = 22809;
  EXPECT_FALSE(ChooseCommunicator(CommunicatorKind::kMpi, ranks).nccl);
}

TEST(ChooseCommunicator, NcclThatIsAskedForInVainIsAUsageErrorThatSaysWhy) {
  const Error error = UsageErrorOf(CommunicatorKind::kNccl, TwoOnOne(22809, true));
  EXPECT_THAT(error.message(), AllOf(HasSubstr("NCCL cannot connect these ranks"),
                                     HasSubstr("ranks 0 and 2 share GPU-a of node1")));
  EXPECT_THAT(error.hint(), HasSubstr("one rank per device"));
}

TEST(ChooseCommunicator, DifferentVersionsAreAUsageError) {
  std::vector<RankDevice> ranks = OneDeviceEach(22809);
  ranks[2].nccl_version = 23003;
  EXPECT_EQ(UsageErrorOf(CommunicatorKind::kAuto, ranks).message(),
            "rank 0 on node1 has NCCL 2.28.9, rank 2 on node2 has 2.30.3");
}

TEST(GatherDevices, EveryRankSeesThoseOfAll) {
  RunAsThreads(3, {}, [](World& world) {
    const std::vector<RankDevice> ranks =
        GatherDevices(world, {.uuid = fmt::format("GPU-{}", world.rank()),
                              .nccl_version = 22800 + world.rank(),
                              .shares_allowed = world.rank() == 1});
    ASSERT_EQ(ranks.size(), 3u);
    for (int r = 0; r < 3; ++r) {
      const RankDevice& rank = ranks[static_cast<size_t>(r)];
      EXPECT_EQ(rank.host, world.hosts()[static_cast<size_t>(r)]);
      EXPECT_EQ(rank.uuid, fmt::format("GPU-{}", r));
      EXPECT_EQ(rank.nccl_version, 22800 + r);
      EXPECT_EQ(rank.shares_allowed, r == 1);
    }
  });
}

GroupOptions Emulated() {
  return {.device = {DeviceKind::kCuda, 0},
          .communicator = CommunicatorKind::kMpi,
          .device_uuid = "GPU-0",
          .make_stream = [] { return cuda::MakeStream(0); },
          .allocate_pinned = [](int64_t bytes) { return cuda::AllocatePinned(0, bytes); }};
}

TEST(DeviceGrid, HasGroupsForTheDeviceAndForTheHost) {
  RunAsThreads(4, {}, [](World& world) {
    ProcessGrid grid(world, {.replicas = 2, .towers = 2}, Emulated());
    EXPECT_EQ(grid.Describe(), "by way of host memory, as asked");
    EXPECT_NE(grid.watchdog(), nullptr);
    const auto stream = cuda::MakeStream(0);
    HostStream host_stream;
    Buffer buffer = cuda::AllocateDevice(0, 1000 * sizeof(float));
    const Tensor values = ViewOf(buffer, DType::kFloat32, {1000});
    cuda::Enqueue(*stream, [&] {
      for (int i = 0; i < 1000; ++i) values.As<float>()[i] = static_cast<float>(world.rank());
    });
    // The host's collectives go on beside the device's.
    Request on_device =
        grid.Along(Axis::kReplica).AllReduce(*stream, values, ReduceOp::kSum, "gradients");
    double crops = world.rank();
    grid.HostAlong(Axis::kReplica)
        .AllReduce(host_stream, {&crops, DType::kFloat64, {1}}, ReduceOp::kSum, "crops")
        .Wait(host_stream);
    on_device.Wait(*stream);
    grid.Along(Axis::kTower)
        .AllReduce(*stream, values, ReduceOp::kSum, "activations")
        .Wait(*stream);
    stream->Synchronize();
    EXPECT_EQ(crops, grid.place().tower == 0 ? 0 + 2 : 1 + 3);
    EXPECT_EQ(values.As<float>()[999], 0 + 1 + 2 + 3);
    EXPECT_EQ(grid.HostAlong(Axis::kTower).size(), 2);
    EXPECT_FALSE(grid.Along(Axis::kReplica).queues_on_device());
  });
}

TEST(DeviceGrid, GivenUpItFailsEveryGroup) {
  RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
    ProcessGrid grid(world, {.replicas = 2}, Emulated());
    grid.GiveUp("the test says so");
    HostStream stream;
    double value = 0;
    const Tensor tensor{&value, DType::kFloat64, {1}};
    for (Communicator* group : {&grid.Along(Axis::kReplica), &grid.HostAlong(Axis::kReplica)}) {
      try {
        group->AllReduce(stream, tensor, ReduceOp::kSum, "sum").Wait(stream);
        ADD_FAILURE() << "did not throw";
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::kPeer);
        EXPECT_THAT(error.message(), HasSubstr("the test says so"));
      }
    }
  });
}

TEST(DeviceGrid, OfTheCpuHasOneKindOfGroups) {
  RunAsThreads(2, {}, [](World& world) {
    ProcessGrid grid(world, {.replicas = 2});
    EXPECT_EQ(&grid.Along(Axis::kReplica), &grid.HostAlong(Axis::kReplica));
    EXPECT_EQ(&grid.Along(Axis::kTower), &grid.HostAlong(Axis::kTower));
    EXPECT_EQ(grid.watchdog(), nullptr);
    EXPECT_FALSE(grid.Along(Axis::kReplica).queues_on_device());
    EXPECT_FALSE(grid.Along(Axis::kReplica).AllocateRegistered(100));
    EXPECT_EQ(grid.Describe(), "host memory");
  });
}

TEST(DeviceGrid, OneRankCopiesOnItsOwnStreamAndNeedsNoNccl) {
  const auto world = MakeSelfWorld();
  GroupOptions options = Emulated();
  options.communicator = CommunicatorKind::kAuto;
  ProcessGrid grid(*world, {}, options);
  EXPECT_EQ(grid.Describe(), "one rank: nothing is exchanged");
  EXPECT_TRUE(grid.Along(Axis::kReplica).queues_on_device());
  EXPECT_FALSE(grid.HostAlong(Axis::kReplica).queues_on_device());
  const auto stream = cuda::MakeStream(0);
  std::vector<float> from(100), to(100), seen;
  cuda::Enqueue(*stream, [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::fill(from.begin(), from.end(), 3.0f);
  });
  const Tensor send{from.data(), DType::kFloat32, {100}};
  const Tensor receive{to.data(), DType::kFloat32, {1, 100}};
  grid.Along(Axis::kReplica).AllGather(*stream, send, receive, "all-gather").Wait(*stream);
  cuda::Enqueue(*stream, [&] { seen = to; });
  stream->Synchronize();
  EXPECT_EQ(seen, std::vector<float>(100, 3.0f));
  // It can be recorded.
  std::fill(from.begin(), from.end(), 4.0f);
  const auto step = cuda::Record(*stream, [&] {
    grid.Along(Axis::kReplica).AllGather(*stream, send, receive, "all-gather").Wait(*stream);
  });
  step->Queue(*stream);
  stream->Synchronize();
  EXPECT_EQ(to, std::vector<float>(100, 4.0f));
  // Memory of the device and a stream of the host do not go together.
  HostStream host_stream;
  EXPECT_THROW(grid.Along(Axis::kReplica).AllGather(host_stream, send, receive, "all-gather"),
               Error);
}

}  // namespace
}  // namespace convoy
