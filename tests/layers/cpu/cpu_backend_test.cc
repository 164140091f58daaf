// What concerns only the CPU backend: its threads, and the primitives that it measures. The tests
// that every backend passes are in tests/backend.
#include <map>
#include <thread>

#include "tests/backend/compare.h"

namespace convoy {
namespace {

TEST(CpuBackend, SaysWhatItIs) {
  EXPECT_EQ(MakeCpuBackend(2)->Describe().substr(0, 12), "cpu: oneDNN ");
}

// Ranks can be threads of one process: each has a backend and OpenMP threads of its own.
TEST(CpuNetwork, RunsBesideAnotherInTheSameProcess) {
  const SegmentSpec segment = SmallNetwork();
  const auto gradients_of = [&](int threads) {
    SegmentRun run(MakeCpuBackend(threads), segment, {.batch = 6});
    run.SetInput(4);
    std::vector<double> gradients;
    for (int repetition = 0; repetition < 5; ++repetition) {
      run.Forward(true);
      run.Backward();
      gradients = run.Gradients();
    }
    return gradients;
  };
  const std::vector<double> alone[2] = {gradients_of(1), gradients_of(2)};
  std::vector<double> beside[2];
  std::thread other([&] { beside[1] = gradients_of(2); });
  beside[0] = gradients_of(1);
  other.join();
  EXPECT_EQ(beside[0], alone[0]);
  EXPECT_EQ(beside[1], alone[1]);
}

// More threads than rows too. Sums are cut elsewhere, so that the last bits may differ.
TEST(CpuNetwork, GivesTheSameWithAnyNumberOfThreads) {
  const SegmentSpec segment = SmallNetwork();
  std::vector<double> reference;
  for (const int threads : {1, 2, 3, 5}) {
    SegmentRun run(MakeCpuBackend(threads), segment, {.batch = 2});
    run.SetInput(4);
    run.Forward(true);
    run.Backward();
    const auto gradients = run.Gradients();
    if (reference.empty()) reference = gradients;
    EXPECT_LE(DistanceOf(gradients, reference), 1e-6) << threads;
  }
}

class CountingTimer final : public OperationTimer {
 public:
  void Record(const std::string& operation, double) override { ++counts[operation]; }
  std::map<std::string, int> counts;
};

TEST(CpuNetwork, MeasuresThePrimitivesOfItsOperations) {
  SegmentSpec segment = SmallNetwork();
  segment.needs_input_gradient = false;
  SegmentRun run(MakeCpuBackend(1), segment, {.batch = 2});
  CountingTimer timer;
  run.context().timer = &timer;
  run.Forward(true);
  run.Backward();
  double flops = 0;
  for (const OperationLimit& limit : run.network().MeasureLimits(1)) {
    EXPECT_EQ(timer.counts[limit.operation], 1) << limit.operation;
    EXPECT_GT(limit.seconds, 0);
    EXPECT_GT(limit.bytes, 0);
    flops += limit.flops;
  }
  NetworkSpec network{.name = "small", .input = segment.input, .layers = {}};
  for (const SegmentSpec::Item& item : segment.items) network.layers.push_back(item.layer);
  EXPECT_EQ(flops, 2.0 * static_cast<double>(TrainingFlops(network)));
}

}  // namespace
}  // namespace convoy
