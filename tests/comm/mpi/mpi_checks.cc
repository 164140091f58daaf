// mpi_checks - what needs a real launcher: the collectives of an MPI world, late and lost ranks,
// and how long a reduction takes. Started by ctest, or by hand:
//   mpirun -n 2 mpi_checks                     every check
//   mpirun -n 3 mpi_checks --late              rank 1 never calls, and is named by rank 0, or by
//                                              --speaker RANK; ends with 6
//   mpirun -n 3 mpi_checks --gives-up          rank 2 gives up while it waits for rank 1
//   mpirun -n 2 mpi_checks --stopped           the same for a rank that was stopped by a signal
//   mpirun -n 2 mpi_checks --lost              rank 1 is killed
//   mpirun -n 2 mpi_checks --exception         rank 1 throws; must not hang
//   mpirun -n 2 mpi_checks --measure [--mpi]   all-reduce of AlexNet's gradients
//   PMI_SIZE=4 mpi_checks --launcher           another MPI's launcher; ends with 2
// With --mpi everything goes through MPI. With --ranks-per-host N every N ranks move their data as
// if they were on a host of their own.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "comm/buckets.h"
#include "comm/communicator.h"
#include "comm/device/staged.h"
#include "comm/grid.h"
#include "comm/host/reduce.h"
#include "comm/world.h"
#include "tests/comm/collective_checks.h"
#include "tests/comm/mpi/mpi_measurements.h"

namespace convoy {
namespace {

void CheckDescription(World& world) {
  CONVOY_REQUIRE(world.Describe().find(fmt::format("{} rank", world.size())) != std::string::npos,
                 "description: " + world.Describe());
}

// Two replicas of two towers, or what the number of ranks allows.
void CheckGrid(World& world) {
  const int towers = world.size() % 2 == 0 ? 2 : 1;
  ProcessGrid grid(world, {.replicas = world.size() / towers, .towers = towers});
  HostStream stream;
  for (const MemoryKind memory : {MemoryKind::kOrdinary, MemoryKind::kShared}) {
    OwnedTensor gradients(world, memory, DType::kFloat32, {100000});
    for (const DType wire : {DType::kFloat32, DType::kBFloat16}) {
      for (int64_t i = 0; i < 100000; ++i)
        gradients.Set(i, static_cast<double>(i % 50) + grid.place().replica);
      GradientBuckets buckets({{"fc", 40000, 60000, &grid.Along(Axis::kReplica)},
                               {"conv", 0, 40000, &grid.Along(Axis::kReplica)}},
                              gradients.tensor,
                              {.wire = wire, .allocate_wire = [&world](int64_t bytes) {
                                 return world.AllocateShared(bytes);
                               }});
      buckets.Begin({{0, 100000}});
      buckets.GradientReady(stream, 0, 100000);
      buckets.Wait(stream, 0);
      buckets.Wait(stream, 1);
      const int n = grid.shape().replicas;
      for (int64_t i = 0; i < 100000; ++i) {
        const double expected = static_cast<double>(n * (i % 50)) + 0.5 * n * (n - 1);
        CONVOY_REQUIRE(gradients.Get(i) == expected, fmt::format("gradient {}", i));
      }
    }
  }
}

// A group for devices cuts its reductions into pieces: the bits stay the same.
void CheckStagedBits(World& world) {
  constexpr int64_t kCount = 3500003;
  const auto staged =
      MakeStaged(world.Split("devices", 0, world.rank()),
                 {.name = "devices", .make_stream = [] { return std::make_unique<HostStream>(); }});
  std::vector<float> on_host(kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    on_host[static_cast<size_t>(i)] =
        (static_cast<float>(i % 977) + 0.1f) / static_cast<float>(i % 31 + world.rank() + 1);
  }
  std::vector<float> on_device = on_host;
  HostStream stream;
  world.all()
      .AllReduce(stream, {on_host.data(), DType::kFloat32, {kCount}}, ReduceOp::kSum, "sum")
      .Wait(stream);
  staged->AllReduce(stream, {on_device.data(), DType::kFloat32, {kCount}}, ReduceOp::kSum, "sum")
      .Wait(stream);
  CONVOY_REQUIRE(std::memcmp(on_host.data(), on_device.data(), kCount * sizeof(float)) == 0,
                 "a staged all-reduce gives other bits");
}

// Magnitudes so different that every order of adding gives other bits.
std::vector<std::byte> Terms(DType dtype, int rank, int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count * SizeOf(dtype)));
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>((i * 7 + rank) % 11 < 5 ? 1e4 : -1) /
                       static_cast<float>(1 + (i + 3 * rank) % 997);
    if (dtype == DType::kFloat32) reinterpret_cast<float*>(bytes.data())[i] = value;
    if (dtype == DType::kBFloat16) reinterpret_cast<BFloat16*>(bytes.data())[i] = BFloat16(value);
  }
  return bytes;
}

using Arrays = std::vector<std::vector<std::byte>>;

std::vector<std::byte> SumOf(DType dtype, const Arrays& terms) {
  const std::vector<const void*> sources = [&] {
    std::vector<const void*> pointers;
    for (const std::vector<std::byte>& term : terms) pointers.push_back(term.data());
    return pointers;
  }();
  std::vector<std::byte> sum(terms[0].size());
  void* const destination = sum.data();
  ReduceArrays(dtype, ReduceOp::kSum, sources, {&destination, 1},
               static_cast<int64_t>(sum.size()) / SizeOf(dtype));
  return sum;
}

// The ranks of a host are added in their order, rounded to the type, and then the hosts in theirs:
// for every element, in small and in large arrays, and in a reduce-scatter as in an all-reduce.
void CheckOrder(World& world, int ranks_per_host) {
  HostStream stream;
  Communicator& all = world.all();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int64_t block : {5, 3000, 400001}) {
      const int64_t count = block * all.size();
      Arrays sums;
      for (int first = 0; first < all.size(); first += ranks_per_host) {
        Arrays terms;
        for (int r = first; r < std::min(all.size(), first + ranks_per_host); ++r) {
          terms.push_back(Terms(dtype, r, count));
        }
        sums.push_back(SumOf(dtype, terms));
      }
      const std::vector<std::byte> expected = SumOf(dtype, sums);
      const std::vector<std::byte> own = Terms(dtype, all.rank(), count);
      for (const MemoryKind memory : kMemories) {
        OwnedTensor data(world, memory, dtype, {all.size(), block});
        OwnedTensor received(world, memory, dtype, {block});
        std::memcpy(data.tensor.data, own.data(), own.size());
        all.ReduceScatter(stream, data.tensor, received.tensor, "scatter in order").Wait(stream);
        const auto bytes = static_cast<size_t>(received.tensor.bytes());
        CONVOY_REQUIRE(
            std::memcmp(received.tensor.data,
                        expected.data() + static_cast<size_t>(all.rank()) * bytes, bytes) == 0,
            fmt::format("reduce-scatter of {} {}: other order", count, NameOf(dtype)));
        std::memcpy(data.tensor.data, own.data(), own.size());
        all.AllReduce(stream, data.tensor, ReduceOp::kSum, "sum in order").Wait(stream);
        CONVOY_REQUIRE(std::memcmp(data.tensor.data, expected.data(), expected.size()) == 0,
                       fmt::format("all-reduce of {} {}: other order", count, NameOf(dtype)));
      }
    }
  }
  if (world.rank() == 0) std::printf("Order: passed\n");
}

void RunChecks(World& world) {
  const auto run = [&](const std::string& name, void (*check)(World&)) {
    check(world);
    if (world.rank() == 0) std::printf("%s: passed\n", name.c_str());
  };
  for (const CollectiveCheck& check : CollectiveChecks()) run(check.name, check.run);
  for (const CollectiveCheck& check : GroupChecks()) run(check.name, check.run);
  run("Grid", CheckGrid);
  run("StagedBits", CheckStagedBits);
  run("Description", CheckDescription);
}

// --- Faults --------------------------------------------------------------------------------------

// Waits for a sum that never comes, because rank 1 does not call.
void WaitForSum(World& world) {
  HostStream stream;
  std::vector<float> values(100000);
  world.all()
      .AllReduce(stream, {values.data(), DType::kFloat32, {100000}}, ReduceOp::kSum,
                 "all-reduce of fc6")
      .Wait(stream);
}

// What a rank sees when rank 1 does not come. Ends the run with the code of a lost peer.
void ExpectMissingRank(World& world, const std::vector<std::string>& parts) {
  try {
    WaitForSum(world);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    bool good = error.exit_code() == ExitCode::kPeer;
    for (const std::string& part : parts) {
      if (error.message().find(part) == std::string::npos) {
        std::printf("without '%s'\n", part.c_str());
        good = false;
      }
    }
    std::fflush(stdout);
    world.Abort(good ? ExitCode::kPeer : ExitCode::kDefect);
  }
  std::printf("no error\n");
  std::fflush(stdout);
  world.Abort(ExitCode::kDefect);
}

void SleepForEver() {
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

// This rank gives up while it waits, and every later call fails too. Ends the run with the code of
// a lost peer.
void ExpectGivingUp(World& world) {
  HostStream stream;
  std::vector<float> values(100000);
  Request request = world.all().AllReduce(stream, {values.data(), DType::kFloat32, {100000}},
                                          ReduceOp::kSum, "all-reduce of fc6");
  world.all().GiveUp("it has waited enough");
  bool good = false;
  try {
    request.Wait(stream);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    good = error.exit_code() == ExitCode::kPeer &&
           error.message().find("at step 7: it has waited enough") != std::string::npos;
  }
  for (const bool sum : {true, false}) {
    try {
      sum ? WaitForSum(world) : world.all().Barrier("after giving up");
      good = false;
    } catch (const Error& error) {
      good = good && error.exit_code() == ExitCode::kPeer;
    }
  }
  std::fflush(stdout);
  world.Abort(good ? ExitCode::kPeer : ExitCode::kDefect);
}

void RunFault(World& world, const std::string& fault, int speaker) {
  world.all().Barrier("before the fault");
  if (world.rank() != 1) world.SetStep(7);
  if (fault == "--exception") {
    if (world.rank() == 1) throw Error(ExitCode::kData, "no more data on rank 1");
    HostStream stream;
    double value = 1;
    world.all()
        .AllReduce(stream, {&value, DType::kFloat64, {1}}, ReduceOp::kSum, "sum")
        .Wait(stream);
  } else if (world.rank() == 1) {
    if (fault == "--lost") raise(SIGKILL);
    if (fault == "--stopped") raise(SIGSTOP);
    SleepForEver();
  } else if (fault == "--gives-up" && world.rank() == 2) {
    ExpectGivingUp(world);
  } else if (world.rank() == speaker) {
    std::vector<std::string> parts = {"all-reduce of fc6 in group all at step 7", "rank 1 ("};
    if (fault == "--stopped") parts.push_back("stopped");
    if (fault == "--lost") parts.push_back("lost");
    ExpectMissingRank(world, parts);
  } else {
    // The others call, so that only rank 1 is late; one rank speaks.
    try {
      WaitForSum(world);
    } catch (const Error&) {
      SleepForEver();
    }
  }
}

int Main(const std::vector<std::string>& arguments) {
  // Returns the number after an option, or `otherwise` if it was not given.
  const auto number = [&](const char* option, int otherwise) {
    const auto found = std::find(arguments.begin(), arguments.end(), option);
    return found == arguments.end() || found + 1 == arguments.end() ? otherwise
                                                                    : std::stoi(*(found + 1));
  };
  const std::string mode = arguments.empty() ? "" : arguments[0];
  const bool mpi_alone = std::find(arguments.begin(), arguments.end(), "--mpi") != arguments.end();
  WorldOptions options;
  if (mode == "--late" || mode == "--stopped") options.deadline_s = 1;
  if (mpi_alone) options.shared_memory = SharedMemory::kOff;
  options.ranks_per_host = number("--ranks-per-host", 0);
  const std::unique_ptr<World> world = MakeMpiWorld(options);
  if (mode == "--measure") {
    MeasureReductions(*world);
  } else if (mode.empty() || mode == "--mpi" || mode == "--ranks-per-host") {
    RunChecks(*world);
    CheckOrder(*world, mpi_alone ? 1 : number("--ranks-per-host", world->size()));
  } else {
    RunFault(*world, mode, number("--speaker", 0));
  }
  return 0;
}

}  // namespace
}  // namespace convoy

int main(int count, char** values) {
  try {
    return convoy::Main(std::vector<std::string>(values + 1, values + count));
  } catch (const convoy::Error& error) {
    std::printf("%s\n", error.what());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::printf("failed: %s\n", error.what());
    return 1;
  }
}
