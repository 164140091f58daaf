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
#include <sys/resource.h>
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
#include "core/median.h"
#include "tests/comm/collective_checks.h"

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

// --- Measuring -----------------------------------------------------------------------------------

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

constexpr int kRepetitions = 9;

// 61 M fp32 gradients in the three buckets of backward order.
constexpr int64_t kGradients = 60965616;
std::vector<Bucket> AlexNetBuckets(Communicator& group) {
  return {{"fc8+fc7", 40087304, 20878312, &group},
          {"fc6", 2334720, 37752584, &group},
          {"conv", 0, 2334720, &group}};
}

// Some hundred milliseconds of arithmetic on one core, without memory.
float Compute(float seed) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = static_cast<float>(i) + seed;
  for (int round = 0; round < 250000000; ++round) {
    for (float& value : values) value = value * 0.999f + 1.0f;
  }
  return values[7];
}

// Computing with the reductions under way, as in backward, and without: what they add to the step.
void MeasureOverlap(World& world) {
  HostStream stream;
  const std::unique_ptr<Communicator> group = world.Split("overlap", 0, world.rank());
  for (const MemoryKind memory : {MemoryKind::kOrdinary, MemoryKind::kShared}) {
    OwnedTensor gradients(world, memory, DType::kFloat32, {kGradients});
    float sink = 0;
    std::vector<double> alone_ms, with_ms, exposed_ms;
    for (int repetition = 0; repetition <= kRepetitions; ++repetition) {
      world.all().Barrier("start alone");
      double start = WallSeconds();
      sink += Compute(sink);
      world.all().Barrier("end alone");
      if (repetition > 0) alone_ms.push_back(1e3 * (WallSeconds() - start));

      GradientBuckets buckets(AlexNetBuckets(*group), gradients.tensor, {});
      buckets.Begin({{0, kGradients}});
      world.all().Barrier("start with reductions");
      start = WallSeconds();
      buckets.GradientReady(stream, 0, kGradients);
      sink += Compute(sink);
      const double computed = WallSeconds();
      for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
      const double waited = WallSeconds();
      world.all().Barrier("end with reductions");
      if (repetition > 0) {
        exposed_ms.push_back(1e3 * (waited - computed));
        with_ms.push_back(1e3 * (WallSeconds() - start));
      }
    }
    if (world.rank() == 0) {
      std::printf(
          "%s memory, computing: %.1f ms, with reductions %.1f ms, of it waiting %.2f ms%s\n",
          memory == MemoryKind::kShared ? "shared" : "ordinary", Median(alone_ms), Median(with_ms),
          Median(exposed_ms), sink == 0 ? "!" : "");
    }
  }
}

// Only the reductions, bucket by bucket, in ordinary and in shared memory.
void Measure(World& world) {
  HostStream stream;
  if (world.rank() == 0) {
    std::printf("%s\n%-10s %-8s %10s %10s %10s %10s\n", world.Describe().c_str(), "memory",
                "bucket", "MB", "ms", "CPU ms", "GB/s");
  }
  for (const MemoryKind memory : {MemoryKind::kOrdinary, MemoryKind::kShared}) {
    OwnedTensor gradients(world, memory, DType::kFloat32, {kGradients});
    float* const values = gradients.tensor.As<float>();
    double total_ms = 0, total_cpu_ms = 0;
    for (const Bucket& bucket : AlexNetBuckets(world.all())) {
      std::vector<double> wall_ms, cpu_ms;
      for (int repetition = 0; repetition <= kRepetitions; ++repetition) {
        for (int64_t i = 0; i < bucket.count; ++i) {
          values[bucket.begin + i] = static_cast<float>(i % 1000 + world.rank());
        }
        world.all().Barrier("start");
        const double wall = WallSeconds(), cpu = CpuSeconds();
        world.all()
            .AllReduce(stream, gradients.tensor.Range(bucket.begin, bucket.count), ReduceOp::kSum,
                       bucket.name.c_str())
            .Wait(stream);
        // The first one maps memory.
        if (repetition > 0) {
          wall_ms.push_back(1e3 * (WallSeconds() - wall));
          cpu_ms.push_back(1e3 * (CpuSeconds() - cpu));
        }
        const int n = world.size();
        const int64_t ranks_sum = n * (n - 1) / 2;
        for (int64_t i = 0; i < bucket.count; ++i) {
          CONVOY_REQUIRE(values[bucket.begin + i] == static_cast<float>(n * (i % 1000) + ranks_sum),
                         fmt::format("{}: element {}", bucket.name, i));
        }
      }
      double worst[2] = {Median(wall_ms), Median(cpu_ms)};
      world.all()
          .AllReduce(stream, {worst, DType::kFloat64, {2}}, ReduceOp::kMax, "times")
          .Wait(stream);
      total_ms += worst[0];
      total_cpu_ms += worst[1];
      const double bytes = 4.0 * static_cast<double>(bucket.count);
      if (world.rank() == 0) {
        std::printf("%-10s %-8s %10.1f %10.2f %10.2f %10.2f\n",
                    memory == MemoryKind::kShared ? "shared" : "ordinary", bucket.name.c_str(),
                    bytes / 1e6, worst[0], worst[1], bytes / worst[0] / 1e6);
      }
    }
    if (world.rank() == 0) {
      std::printf("%-10s %-8s %10.1f %10.2f %10.2f\n",
                  memory == MemoryKind::kShared ? "shared" : "ordinary", "all",
                  4e-6 * static_cast<double>(kGradients), total_ms, total_cpu_ms);
    }
  }
  MeasureOverlap(world);
  // Latency: what a step pays for a sum of a few numbers.
  std::vector<double> small_us;
  double value = 1;
  for (int repetition = 0; repetition < 500; ++repetition) {
    const double start = WallSeconds();
    world.all()
        .AllReduce(stream, {&value, DType::kFloat64, {1}}, ReduceOp::kMax, "one number")
        .Wait(stream);
    small_us.push_back(1e6 * (WallSeconds() - start));
  }
  // Waiting must not use a core: rank 0 waits for a second.
  const double cpu = CpuSeconds();
  if (world.rank() != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  world.all().Barrier("idle");
  if (world.rank() == 0) {
    std::printf("one number: %.0f us; CPU of waiting 1 s: %.2f ms\n", Median(small_us),
                1e3 * (CpuSeconds() - cpu));
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
    Measure(*world);
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
