// The parts under the worlds: launcher, reductions, shared memory of a host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <map>

#include "comm/host/futex.h"
#include "comm/host/node_memory.h"
#include "comm/host/progress.h"
#include "comm/host/reduce.h"
#include "comm/mpi/launcher.h"

namespace convoy {
namespace {

using ::testing::HasSubstr;

Environment FakeEnvironment(const std::map<std::string, std::string>& variables) {
  return [variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

TEST(Launcher, MoreRanksThanMpiSeesIsAUsageError) {
  for (const char* variable :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"}) {
    try {
      CheckLauncher(FakeEnvironment({{variable, "4"}}), 1, "Open MPI 4.1.4");
      ADD_FAILURE() << variable << " was not noticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      EXPECT_EQ(error.message(),
                fmt::format("the launcher started 4 ranks ({}), but MPI sees 1", variable));
      EXPECT_THAT(error.hint(), HasSubstr("mpirun of Open MPI 4.1.4"));
    }
    CheckLauncher(FakeEnvironment({{variable, "4"}}), 4, "");
  }
}

TEST(Launcher, StepOfSrunCounts) {
  EXPECT_THROW(CheckLauncher(FakeEnvironment({{"SLURM_STEP_ID", "0"},
                                              {"SLURM_PROCID", "2"},
                                              {"SLURM_NTASKS", "4"},
                                              {"SLURM_STEP_NUM_TASKS", "4"}}),
                             1, ""),
               Error);
}

TEST(Launcher, ShellOfASlurmJobDoesNot) {
  CheckLauncher(FakeEnvironment({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}}), 1, "");
  CheckLauncher(FakeEnvironment({{"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}}), 1, "");
}

std::map<std::string, std::string> InteractiveStep(const std::string& task) {
  return {{"SLURM_STEP_ID", "0"},        {"SLURM_PROCID", task},      {"SLURM_NTASKS", "4"},
          {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PTY_PORT", "40000"}, {"PMI_SIZE", "4"}};
}

TEST(Launcher, InteractiveShellOfSrunDoesNotCount) {
  EXPECT_FALSE(ReadLauncherClaim(FakeEnvironment(InteractiveStep("0")), "bash"));
}

TEST(Launcher, RanksThatSrunStartsOnATerminalCount) {
  EXPECT_EQ(ReadLauncherClaim(FakeEnvironment(InteractiveStep("0")), "slurmstepd")->ranks, 4);
  EXPECT_EQ(ReadLauncherClaim(FakeEnvironment(InteractiveStep("1")), "bash")->ranks, 4);
}

TEST(Launcher, MpirunInsideAnInteractiveShellDecides) {
  auto variables = InteractiveStep("0");
  variables["OMPI_COMM_WORLD_SIZE"] = "2";
  EXPECT_EQ(ReadLauncherClaim(FakeEnvironment(variables), "bash")->ranks, 2);
}

TEST(Launcher, MpirunInsideASlurmJobDecides) {
  CheckLauncher(FakeEnvironment({{"OMPI_COMM_WORLD_SIZE", "1"},
                                 {"SLURM_STEP_ID", "0"},
                                 {"SLURM_PROCID", "0"},
                                 {"SLURM_STEP_NUM_TASKS", "8"}}),
                1, "");
}

TEST(Launcher, PlainStartAndNonsenseAreNoClaim) {
  EXPECT_FALSE(ReadLauncherClaim(FakeEnvironment({})));
  EXPECT_FALSE(ReadLauncherClaim(FakeEnvironment({{"PMI_SIZE", "four"}})));
  EXPECT_FALSE(ReadLauncherClaim(FakeEnvironment({{"PMI_SIZE", ""}})));
}

TEST(ReduceArrays, IntegersWrap) {
  int32_t a = std::numeric_limits<int32_t>::max();
  int32_t b = 1;
  const std::array<const void*, 2> sources{&a, &b};
  void* const destination = &a;
  ReduceArrays(DType::kInt32, ReduceOp::kSum, sources, {&destination, 1}, 1);
  EXPECT_EQ(a, std::numeric_limits<int32_t>::min());
}

TEST(ReduceArrays, NaNIsKeptBySums) {
  float a = std::numeric_limits<float>::quiet_NaN(), b = 1;
  const std::array<const void*, 2> sources{&a, &b};
  void* const destination = &b;
  ReduceArrays(DType::kFloat32, ReduceOp::kSum, sources, {&destination, 1}, 1);
  EXPECT_TRUE(std::isnan(b));
}

TEST(Futex, WaitEndsAtTheLimitOrWhenTheWordDiffers) {
  std::atomic<uint32_t> word{1};
  EXPECT_FALSE(FutexWait(word, 1, 5));
  EXPECT_TRUE(FutexWait(word, 2, 60000));
}

// Two ranks' views of one table, in this process and in a child.
class NodeMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    segment_ = SharedSegment::Create(NodeMemory::TableBytes(2));
    ASSERT_TRUE(segment_.has_value());
  }
  std::shared_ptr<void> Table() { return {std::shared_ptr<void>(), segment_->data()}; }

  std::optional<SharedSegment> segment_;
};

TEST_F(NodeMemoryTest, PeersReachWhatIsExposed) {
  NodeMemory first(Table(), 0, 2), second(Table(), 1, 2);
  const Buffer buffer = first.Allocate(1 << 20);
  auto* bytes = static_cast<std::byte*>(buffer.data());
  bytes[5000] = std::byte{42};
  const Exposure exposure = first.Expose(bytes + 5000, 1000);
  ASSERT_NE(exposure.segment, 0u);
  std::byte* const seen = second.Reach(0, exposure);
  EXPECT_NE(seen, bytes + 5000) << "a mapping of its own";
  EXPECT_EQ(seen[0], std::byte{42});
  seen[1] = std::byte{43};
  EXPECT_EQ(bytes[5001], std::byte{43});
  EXPECT_EQ(first.Reach(0, exposure), bytes + 5000);
}

TEST_F(NodeMemoryTest, OtherMemoryIsNotExposed) {
  NodeMemory first(Table(), 0, 2);
  const Buffer shared = first.Allocate(8192);
  const Buffer own = AllocateHost(8192);
  EXPECT_EQ(first.Expose(own.data(), 8192).segment, 0u);
  EXPECT_NE(first.Expose(shared.data(), 8192).segment, 0u);
  EXPECT_EQ(first.Expose(shared.data(), 8193).segment, 0u) << "reaches beyond the segment";
}

TEST_F(NodeMemoryTest, MemoryThatWasGivenBackIsNeverReached) {
  NodeMemory first(Table(), 0, 2), second(Table(), 1, 2);
  Exposure exposure;
  {
    const Buffer buffer = first.Allocate(8192);
    exposure = first.Expose(buffer.data(), 8192);
  }
  EXPECT_THROW(second.Reach(0, exposure), Error);
}

TEST_F(NodeMemoryTest, MoreSegmentsThanTheTableHoldsAreOrdinaryMemory) {
  NodeMemory first(Table(), 0, 2);
  std::vector<Buffer> buffers;
  bool ordinary = false;
  for (int i = 0; i < 100; ++i) {
    buffers.push_back(first.Allocate(4096));
    ordinary |= first.Expose(buffers.back().data(), 4096).segment == 0;
  }
  EXPECT_TRUE(ordinary);
}

TEST_F(NodeMemoryTest, ProcessThatDiesIsLostAndOneThatEndsToo) {
  NodeMemory first(Table(), 0, 2);
  const Peer peer{.world_rank = 1, .host = "here", .progress = &first.progress(1)};
  EXPECT_FALSE(IsLost(peer));
  const pid_t child = fork();
  if (child == 0) {
    NodeMemory second(Table(), 1, 2);
    second.progress(1).SetStep(12);
    _exit(0);  // without leaving
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(IsLost(peer));
  EXPECT_THAT(Describe(peer), HasSubstr("rank 1 (here): step 12"));
  EXPECT_THAT(Describe(peer), HasSubstr("lost"));
}

TEST(Progress, RankOfAnotherHostIsNotSeen) {
  const Peer peer{.world_rank = 3, .host = "node17"};
  EXPECT_FALSE(IsLost(peer));
  EXPECT_EQ(Describe(peer), "rank 3 (node17): not seen from this host");
}

}  // namespace
}  // namespace convoy
