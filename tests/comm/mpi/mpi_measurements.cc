#include "tests/comm/mpi/mpi_measurements.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/buckets.h"
#include "comm/communicator.h"
#include "core/host/clock.h"
#include "core/median.h"
#include "tests/comm/collective_checks.h"

namespace convoy {
namespace {

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
      Clock::time_point start = Clock::now();
      sink += Compute(sink);
      world.all().Barrier("end alone");
      if (repetition > 0) alone_ms.push_back(1e3 * SecondsSince(start));

      GradientBuckets buckets(AlexNetBuckets(*group), gradients.tensor, {});
      buckets.Begin({{0, kGradients}});
      world.all().Barrier("start with reductions");
      start = Clock::now();
      buckets.GradientReady(stream, 0, kGradients);
      sink += Compute(sink);
      const Clock::time_point computed = Clock::now();
      for (int b = 0; b < 3; ++b) buckets.Wait(stream, b);
      const double waited_s = SecondsSince(computed);
      world.all().Barrier("end with reductions");
      if (repetition > 0) {
        exposed_ms.push_back(1e3 * waited_s);
        with_ms.push_back(1e3 * SecondsSince(start));
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

}  // namespace

// Only the reductions, bucket by bucket, in ordinary and in shared memory.
void MeasureReductions(World& world) {
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
        const Clock::time_point wall = Clock::now();
        const double cpu = ProcessCpuSeconds();
        world.all()
            .AllReduce(stream, gradients.tensor.Range(bucket.begin, bucket.count), ReduceOp::kSum,
                       bucket.name.c_str())
            .Wait(stream);
        // The first one maps memory.
        if (repetition > 0) {
          wall_ms.push_back(1e3 * SecondsSince(wall));
          cpu_ms.push_back(1e3 * (ProcessCpuSeconds() - cpu));
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
    const Clock::time_point start = Clock::now();
    world.all()
        .AllReduce(stream, {&value, DType::kFloat64, {1}}, ReduceOp::kMax, "one number")
        .Wait(stream);
    small_us.push_back(1e6 * SecondsSince(start));
  }
  // Waiting must not use a core: rank 0 waits for a second.
  const double cpu = ProcessCpuSeconds();
  if (world.rank() != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  world.all().Barrier("idle");
  if (world.rank() == 0) {
    std::printf("one number: %.0f us; CPU of waiting 1 s: %.2f ms\n", Median(small_us),
                1e3 * (ProcessCpuSeconds() - cpu));
  }
}

}  // namespace convoy
