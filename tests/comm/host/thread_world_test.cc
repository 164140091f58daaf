// What ranks as threads do when something goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/world.h"
#include "tests/comm/collective_checks.h"

namespace convoy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The message of the Error that `call` throws; empty when it throws none.
template <typename Call>
std::string MessageOf(ExitCode exit_code, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), exit_code) << error.what();
    return error.message();
  }
  return {};
}

Tensor OneNumber(double& value) { return {&value, DType::kFloat64, {1}}; }

TEST(ThreadWorld, ReducesInTheOrderOfTheRanks) {
  RunAsThreads(3, {}, [](World& world) {
    HostStream stream;
    // (1e8 + 1) + -1e8 = 0 in fp32, any other order gives 1.
    const float values[3] = {1e8f, 1.0f, -1e8f};
    float value = values[world.rank()];
    world.all()
        .AllReduce(stream, {&value, DType::kFloat32, {1}}, ReduceOp::kSum, "sum")
        .Wait(stream);
    EXPECT_EQ(value, 0.0f);
  });
}

TEST(ThreadWorld, RoundsBFloat16OnceAtTheEnd) {
  RunAsThreads(3, {}, [](World& world) {
    HostStream stream;
    // 256 + 1 + 1 = 258; rounded after every step it would stay at 256.
    BFloat16 value(world.rank() == 0 ? 256.0f : 1.0f);
    world.all()
        .AllReduce(stream, {&value, DType::kBFloat16, {1}}, ReduceOp::kSum, "sum")
        .Wait(stream);
    EXPECT_EQ(static_cast<float>(value), 258.0f);
  });
}

TEST(ThreadWorld, CollectivesGoOnWhileTheCallerDoesOtherThings) {
  std::atomic<bool> first_has_started{false};
  RunAsThreads(2, {}, [&](World& world) {
    HostStream stream;
    double value = 1;
    if (world.rank() == 0) {
      Request request = world.all().AllReduce(stream, OneNumber(value), ReduceOp::kSum, "sum");
      EXPECT_FALSE(request.Done());
      first_has_started = true;
      while (!request.Done()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_EQ(value, 2);
    } else {
      while (!first_has_started) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      world.all().AllReduce(stream, OneNumber(value), ReduceOp::kSum, "sum").Wait(stream);
    }
  });
}

TEST(ThreadWorld, LateRankIsNamedAndThenRefused) {
  std::atomic<int> given_up{0};
  RunAsThreads(3, {.deadline_s = 2}, [&](World& world) {
    world.SetStep(world.rank() == 1 ? 6 : 7);
    const auto call = [&] {
      HostStream stream;
      double value = 1;
      world.all()
          .AllReduce(stream, OneNumber(value), ReduceOp::kSum, "all-reduce of fc6")
          .Wait(stream);
    };
    if (world.rank() == 1) {
      while (given_up < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_THAT(MessageOf(ExitCode::kPeer, call), HasSubstr("gave up: all-reduce of fc6"));
    } else {
      const std::string message = MessageOf(ExitCode::kPeer, call);
      EXPECT_THAT(message, AllOf(HasSubstr("all-reduce of fc6 in group all at step 7"),
                                 HasSubstr("missing: rank 1 ("), HasSubstr("step 6"),
                                 Not(HasSubstr("rank 2 ("))));
      // The group stays unusable.
      EXPECT_NE(MessageOf(ExitCode::kPeer, call), "");
      ++given_up;
    }
  });
}

TEST(ThreadWorld, DeadlineOfOneGroupLeavesTheOthersUsable) {
  std::atomic<bool> given_up{false};
  RunAsThreads(2, {.deadline_s = 2}, [&](World& world) {
    const std::unique_ptr<Communicator> other = world.Split("other", 0, world.rank());
    if (world.rank() == 0) {
      EXPECT_THAT(MessageOf(ExitCode::kPeer, [&] { other->Barrier("barrier"); }),
                  HasSubstr("barrier in group other"));
      given_up = true;
    }
    while (!given_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    world.all().Barrier("still there");
  });
}

TEST(ThreadWorld, FirstExceptionOfABodyIsRethrownAndReleasesTheOthers) {
  std::atomic<int> released{0};
  try {
    RunAsThreads(4, {.deadline_s = 0}, [&](World& world) {
      const std::unique_ptr<Communicator> group = world.Split("group", 0, world.rank());
      group->Barrier("start");
      if (world.rank() == 2) throw std::out_of_range("a reason of its own");
      try {
        group->Barrier("never complete");
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::kPeer);
        ++released;
        throw;
      }
    });
    FAIL() << "did not throw";
  } catch (const std::out_of_range& error) {
    EXPECT_STREQ(error.what(), "a reason of its own");
  }
  EXPECT_EQ(released, 3);
}

TEST(ThreadWorld, RankThatEndsEarlyIsNamedAtOnce) {
  const std::string message = MessageOf(ExitCode::kPeer, [] {
    RunAsThreads(2, {.deadline_s = 0}, [](World& world) {
      if (world.rank() == 0) world.all().Barrier("end of the epoch");
    });
  });
  EXPECT_THAT(message, HasSubstr("rank 1"));
}

// Each rank waits for the other in another group: only the exception can end it.
TEST(ThreadWorld, ExceptionDoesNotWaitForRequestsInFlight) {
  const auto body = [](World& world) {
    HostStream stream;
    double value = 1;
    const std::unique_ptr<Communicator> group = world.Split("group", 0, world.rank());
    if (world.rank() == 0) {
      const Request request =
          group->AllReduce(stream, OneNumber(value), ReduceOp::kSum, "never complete");
      throw std::out_of_range("a reason of its own");
    }
    world.all().Barrier("never complete");
  };
  EXPECT_THROW(RunAsThreads(2, {.deadline_s = 0}, body), std::out_of_range);
}

TEST(ThreadWorld, DifferentCallsAreADefectThatNamesBoth) {
  const auto in_two_orders = [](World& world) {
    HostStream stream;
    double a = 1, b = 2;
    Communicator& all = world.all();
    const char* const first = world.rank() == 0 ? "conv1" : "fc8";
    const char* const second = world.rank() == 0 ? "fc8" : "conv1";
    Request one = all.AllReduce(stream, OneNumber(a), ReduceOp::kSum, first);
    Request two = all.AllReduce(stream, OneNumber(b), ReduceOp::kSum, second);
    one.Wait(stream);
    two.Wait(stream);
  };
  EXPECT_THAT(MessageOf(ExitCode::kDefect, [&] { RunAsThreads(2, {}, in_two_orders); }),
              AllOf(HasSubstr("rank 0 calls conv1"), HasSubstr("rank 1 calls fc8")));

  const auto of_two_sizes = [](World& world) {
    HostStream stream;
    std::vector<double> values(2);
    world.all()
        .AllReduce(stream, {values.data(), DType::kFloat64, {world.rank() + 1}}, ReduceOp::kSum,
                   "fc8")
        .Wait(stream);
  };
  EXPECT_THAT(MessageOf(ExitCode::kDefect, [&] { RunAsThreads(2, {}, of_two_sizes); }),
              HasSubstr("2 elements"));
}

TEST(ThreadWorld, WrongShapesAreDefects) {
  RunAsThreads(2, {}, [](World& world) {
    HostStream stream;
    std::vector<float> values(8);
    const Tensor four{values.data(), DType::kFloat32, {4}};
    const Tensor six{values.data(), DType::kFloat32, {6}};
    EXPECT_NE(MessageOf(ExitCode::kDefect,
                        [&] { world.all().AllGather(stream, four, six, "all-gather"); }),
              "");
    EXPECT_NE(MessageOf(ExitCode::kDefect,
                        [&] { world.all().ReduceScatter(stream, six, four, "reduce-scatter"); }),
              "");
    EXPECT_NE(
        MessageOf(ExitCode::kDefect, [&] { world.all().Broadcast(stream, four, 2, "broadcast"); }),
        "");
    const Tensor bytes{values.data(), DType::kUInt8, {4}};
    EXPECT_NE(MessageOf(ExitCode::kDefect,
                        [&] { world.all().AllReduce(stream, bytes, ReduceOp::kSum, "sum"); }),
              "");
  });
}

TEST(ThreadWorld, AbortEndsAllRanks) {
  EXPECT_NE(MessageOf(ExitCode::kNumbers,
                      [] {
                        RunAsThreads(3, {.deadline_s = 0}, [](World& world) {
                          if (world.rank() == 1) world.Abort(ExitCode::kNumbers);
                          world.all().Barrier("barrier");
                        });
                      }),
            "");
}

TEST(ProcessGrid, NeighboursAreTheTowersOfOneReplica) {
  RunAsThreads(6, {}, [](World& world) {
    ProcessGrid grid(world, {.replicas = 3, .towers = 2});
    EXPECT_EQ(grid.place().replica, world.rank() / 2);
    EXPECT_EQ(grid.place().tower, world.rank() % 2);
    EXPECT_EQ(grid.Along(Axis::kReplica).rank(), grid.place().replica);
    EXPECT_EQ(grid.Along(Axis::kReplica).size(), 3);
    EXPECT_EQ(grid.Along(Axis::kTower).rank(), grid.place().tower);
    EXPECT_EQ(grid.Along(Axis::kTower).size(), 2);
    HostStream stream;
    double sum = world.rank();
    grid.Along(Axis::kReplica)
        .AllReduce(stream, OneNumber(sum), ReduceOp::kSum, "sum")
        .Wait(stream);
    EXPECT_EQ(sum, grid.place().tower == 0 ? 0 + 2 + 4 : 1 + 3 + 5);
    sum = world.rank();
    grid.Along(Axis::kTower).AllReduce(stream, OneNumber(sum), ReduceOp::kSum, "sum").Wait(stream);
    EXPECT_EQ(sum, 4 * grid.place().replica + 1);
  });
}

// Rank 5 is tower 1 of shard 0 of replica 1.
TEST(ProcessGrid, GroupsAreTheRanksThatDifferAlongTheirAxesAlone) {
  const GridShape shape{.replicas = 2, .shards = 2, .towers = 2};
  EXPECT_EQ(shape.PlaceOf(5), (GridPlace{.replica = 1, .shard = 0, .tower = 1}));
  const std::vector<std::pair<Axes, std::vector<int>>> groups_of_5 = {
      {Axis::kReplica, {1, 5}},
      {Axis::kReplica | Axis::kShard, {1, 3, 5, 7}},
      {Axis::kShard | Axis::kTower, {4, 5, 6, 7}},
      {Axis::kShard, {5, 7}},
      {Axis::kTower, {4, 5}},
      {{}, {5}}};
  RunAsThreads(8, {}, [&](World& world) {
    ProcessGrid grid(world, shape);
    for (const auto& [axes, ranks] : groups_of_5) {
      EXPECT_EQ(shape.RanksWith(axes, shape.PlaceOf(5)), ranks) << NameOf(axes);
      if (axes.empty()) continue;
      HostStream stream;
      double sum = 1 << world.rank();
      grid.Along(axes).AllReduce(stream, OneNumber(sum), ReduceOp::kSum, "sum").Wait(stream);
      double expected = 0;
      for (int rank : ranks) expected += 1 << rank;
      if (world.rank() == 5) {
        EXPECT_EQ(sum, expected) << NameOf(axes);
      }
      EXPECT_EQ(grid.Along(axes).rank(), shape.RankAlong(axes, grid.place()));
    }
    // Axes of one rank do not matter.
    EXPECT_EQ(NameOf(shape.Effective(Axis::kTower)), "towers");
    EXPECT_THROW(grid.Along(Axis::kReplica | Axis::kTower), Error);
  });
  const GridShape towers{.towers = 2};
  EXPECT_EQ(NameOf(towers.Effective(Axis::kReplica | Axis::kShard)), "one rank");
}

// A sum for batch norm comes through though a group's gradients are still waited for.
TEST(ProcessGrid, StatisticsDoNotQueueBehindGradients) {
  RunAsThreads(2, {}, [&](World& world) {
    ProcessGrid grid(world, {.replicas = 2});
    EXPECT_EQ(&grid.StatisticsAlong(Axis::kReplica), &grid.Along(Axis::kReplica));
    grid.AddStatisticsGroups();
    grid.AddStatisticsGroups();
    HostStream stream;
    double gradient = 1, statistic = 1;
    Request late;
    // Rank 1 gives its gradient only after the statistics.
    const auto reduce = [&] {
      late = grid.Along(Axis::kReplica)
                 .AllReduce(stream, OneNumber(gradient), ReduceOp::kSum, "gradient");
    };
    if (world.rank() == 0) reduce();
    grid.StatisticsAlong(Axis::kReplica)
        .AllReduce(stream, OneNumber(statistic), ReduceOp::kSum, "batch norm")
        .Wait(stream);
    EXPECT_EQ(statistic, 2);
    if (world.rank() == 1) reduce();
    late.Wait(stream);
    EXPECT_EQ(gradient, 2);
  });
}

TEST(ProcessGrid, WrongNumberOfRanksIsADefect) {
  RunAsThreads(3, {}, [](World& world) {
    try {
      const ProcessGrid grid(world, {.replicas = 2, .towers = 2});
      ADD_FAILURE() << "did not throw";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kDefect);
      EXPECT_THAT(error.message(), HasSubstr("a grid of 4 ranks in a world of 3"));
    }
  });
}

}  // namespace
}  // namespace convoy
