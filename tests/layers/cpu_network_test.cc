// What the CPU backend does with a network: reporting, freezing, repeating itself exactly.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <thread>

#include "layers/models.h"
#include "tests/layers/cpu_compare.h"

namespace convoy {
namespace {

using Report = RecordingObserver::Report;
using Kind = RecordingObserver::Kind;

constexpr Activation kRelu{};
const Convolution kConv{.out_channels = 24, .kernel = 3, .padding = Padding::Same(1), .groups = 2};

SegmentSpec SmallNetwork() {
  return SegmentOf(Shape{15, 13, 3},
                   {Convolution{.out_channels = 16, .kernel = 5, .stride = 2}, kRelu,
                    Lrn{.groups = 2}, Pool{}, kConv, kRelu, FullyConnected{.out_features = 20},
                    kRelu, Dropout{}, FullyConnected{.out_features = 10}, SoftmaxCrossEntropy{}});
}

TEST(CpuNetwork, ShowsActivationsThatWereNotFused) {
  SegmentRun run(MakeCpuBackend(1), SmallNetwork(), {.batch = 2});
  const std::vector<bool> is_kept = {false, true,  false, true, false, true,
                                     false, false, true,  true, true};
  for (size_t i = 0; i < is_kept.size(); ++i) {
    EXPECT_EQ(static_cast<bool>(run.network().Activation(static_cast<int>(i))), is_kept[i]) << i;
  }
  EXPECT_FALSE(run.network().output_gradient());
}

// Copies what is reported ready, and spoils weights as soon as they are released.
class SpoilingObserver final : public BackwardObserver {
 public:
  explicit SpoilingObserver(const NetworkArenas& arenas) : arenas_(arenas) {}
  void GradientReady(int64_t begin, int64_t count) override {
    ready[begin] = ValuesOf(arenas_.gradients.Range(begin, count));
  }
  void WeightsReleased(int64_t begin, int64_t count) override {
    EXPECT_TRUE(ready.contains(begin));
    SetValues(arenas_.parameters.Range(begin, count),
              std::vector<double>(static_cast<size_t>(count), std::nan("")));
  }
  std::map<int64_t, std::vector<double>> ready;

 private:
  const NetworkArenas& arenas_;
};

TEST(CpuNetwork, ReportsRangesWhenTheyAreFinalAndNoLongerRead) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun plain(MakeCpuBackend(2), segment, {.batch = 3});
  SegmentRun spoiled(MakeCpuBackend(2), segment, {.batch = 3});
  for (SegmentRun* run : {&plain, &spoiled}) {
    SetValues(run->network().input(), RandomValues(run->network().input().count(), 4));
    run->Forward(true);
  }
  plain.Backward();
  SpoilingObserver observer(spoiled.arenas());
  spoiled.network().Backward(spoiled.context(), observer);
  EXPECT_EQ(ValuesOf(plain.network().input_gradient()),
            ValuesOf(spoiled.network().input_gradient()));
  for (const ArenaEntry& entry : plain.parameter_layout().entries()) {
    EXPECT_EQ(observer.ready.at(entry.offset), plain.Gradient(entry.name)) << entry.name;
  }
}

TEST(CpuNetwork, ReportsFromTheLastLayerToTheFirst) {
  CpuAndOracle both(SmallNetwork(), DType::kFloat32, 2);
  std::vector<Report> reports[2];
  for (int i = 0; i < 2; ++i) {
    SegmentRun& run = i == 0 ? both.cpu : both.oracle;
    run.Forward(true);
    reports[i] = run.Backward();
  }
  for (const Kind kind : {Kind::kReady, Kind::kReleased}) {
    std::vector<Report> of_kind[2];
    for (int i = 0; i < 2; ++i) {
      std::copy_if(reports[i].begin(), reports[i].end(), std::back_inserter(of_kind[i]),
                   [&](const Report& report) { return report.kind == kind; });
    }
    EXPECT_EQ(of_kind[0], of_kind[1]);
    EXPECT_EQ(of_kind[0].size(), both.cpu.parameter_layout().entries().size());
  }
}

// Nothing below the last layer that learns is computed, nothing that does not learn is written.
TEST(CpuNetwork, LeavesFrozenLayersAlone) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun run(MakeCpuBackend(2), segment, {.batch = 3});
  SegmentRun reference(MakeCpuBackend(2), segment, {.batch = 3});
  for (SegmentRun* each : {&run, &reference}) {
    SetValues(each->network().input(), RandomValues(each->network().input().count(), 4));
    each->Forward(true);
  }
  reference.Backward();
  // layer0, layer4, layer6 and layer9 have weights.
  const std::vector<std::vector<bool>> settings = {
      {false, false, false, false, true, false, true, false, false, true, false},
      {false, true, true, true, true, false, false, false, false, true, false},
      {false, false, false, false, false, false, false, false, false, true, true},
      {true, false, false, false, false, false, false, false, false, false, false},
      std::vector<bool>(11, false)};
  for (const auto& learns : settings) {
    run.network().SetLearning(learns, false);
    EXPECT_FALSE(run.network().input_gradient());
    SetValues(run.arenas().gradients,
              std::vector<double>(static_cast<size_t>(run.arenas().gradients.count()), 99));
    std::vector<int64_t> ready, released;
    for (const Report& report : run.Backward()) {
      (report.kind == Kind::kReady ? ready : released).push_back(report.begin);
    }
    bool is_above_lowest = false;
    for (const ArenaEntry& entry : run.parameter_layout().entries()) {
      const int layer = std::stoi(entry.name.substr(5));
      const auto gradient = run.Gradient(entry.name);
      is_above_lowest = is_above_lowest || learns[static_cast<size_t>(layer)];
      EXPECT_EQ(std::count(released.begin(), released.end(), entry.offset), is_above_lowest ? 1 : 0)
          << entry.name;
      if (learns[static_cast<size_t>(layer)]) {
        EXPECT_EQ(gradient, reference.Gradient(entry.name)) << entry.name;
        EXPECT_EQ(std::count(ready.begin(), ready.end(), entry.offset), 1) << entry.name;
      } else {
        EXPECT_EQ(gradient, std::vector<double>(gradient.size(), 99)) << entry.name;
        EXPECT_EQ(std::count(ready.begin(), ready.end(), entry.offset), 0) << entry.name;
      }
    }
  }
  run.network().SetLearning(std::vector<bool>(11, false), true);
  run.Backward();
  EXPECT_EQ(ValuesOf(run.network().input_gradient()),
            ValuesOf(reference.network().input_gradient()));
}

TEST(CpuNetwork, RepeatsItselfToTheLastBit) {
  const SegmentSpec segment = SmallNetwork();
  for (const DType dtype : CpuTypes()) {
    std::vector<std::vector<double>> gradients;
    for (int i = 0; i < 3; ++i) {
      SegmentRun run(MakeCpuBackend(2), segment, {.dtype = dtype, .batch = 8});
      SetValues(run.network().input(), RandomValues(run.network().input().count(), 4));
      for (int repetition = 0; repetition < 2; ++repetition) {
        run.Forward(true);
        run.Backward();
        gradients.push_back(ValuesOf(run.arenas().gradients));
      }
    }
    for (const auto& gradient : gradients) EXPECT_EQ(gradient, gradients.front());
  }
}

// Ranks can be threads of one process: each has a backend and OpenMP threads of its own.
TEST(CpuNetwork, RunsBesideAnotherInTheSameProcess) {
  const SegmentSpec segment = SmallNetwork();
  const auto gradients_of = [&](int threads) {
    SegmentRun run(MakeCpuBackend(threads), segment, {.batch = 6});
    SetValues(run.network().input(), RandomValues(run.network().input().count(), 4));
    std::vector<double> gradients;
    for (int repetition = 0; repetition < 5; ++repetition) {
      run.Forward(true);
      run.Backward();
      gradients = ValuesOf(run.arenas().gradients);
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
    SetValues(run.network().input(), RandomValues(run.network().input().count(), 4));
    run.Forward(true);
    run.Backward();
    const auto gradients = ValuesOf(run.arenas().gradients);
    if (reference.empty()) reference = gradients;
    EXPECT_LE(DistanceOf(gradients, reference), 1e-6) << threads;
  }
}

TEST(CpuNetwork, EvaluatesTheSameWhenCompiledWithoutTraining) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun training(MakeCpuBackend(2), segment, {.batch = 3});
  SegmentRun evaluation(MakeCpuBackend(2), segment, {.batch = 3, .training = false});
  for (SegmentRun* run : {&training, &evaluation}) {
    SetValues(run->network().input(), RandomValues(run->network().input().count(), 4));
    run->Forward(false);
  }
  ExpectClose("probabilities", ValuesOf(evaluation.network().output()),
              ValuesOf(training.network().output()), ToleranceOf(DType::kFloat32, 100));
  EXPECT_FALSE(evaluation.network().output_gradient());
  EXPECT_FALSE(evaluation.network().input_gradient());
  EXPECT_THROW(evaluation.Backward(), Error);
}

TEST(CpuNetwork, KeepsLogitsAndProbabilitiesInFloat32) {
  if (CpuTypes().size() < 2) GTEST_SKIP() << "no AVX-512";
  const SegmentSpec segment = SmallNetwork();
  SegmentRun run(MakeCpuBackend(1), segment, {.dtype = DType::kBFloat16, .batch = 2});
  EXPECT_EQ(run.network().Activation(9).dtype, DType::kFloat32);
  EXPECT_EQ(run.network().output().dtype, DType::kFloat32);
  EXPECT_EQ(run.network().input().dtype, DType::kBFloat16);
}

class RecordingTimer final : public OperationTimer {
 public:
  void Record(const std::string& operation, double seconds) override {
    EXPECT_GE(seconds, 0);
    ++counts[operation];
  }
  std::map<std::string, int> counts;
};

TEST(CpuNetwork, TimesEveryOperationAndItsPrimitives) {
  SegmentSpec segment = SmallNetwork();
  segment.needs_input_gradient = false;
  SegmentRun run(MakeCpuBackend(1), segment, {.batch = 2});
  RecordingTimer timer;
  run.context().timer = &timer;
  run.Forward(true);
  run.Backward();
  for (const char* operation :
       {"layer0 forward", "layer0 backward weights", "layer2+layer3 forward",
        "layer2+layer3 backward", "layer4 backward data", "layer8 backward", "layer10 forward"}) {
    EXPECT_EQ(timer.counts[operation], 1) << operation;
  }
  EXPECT_FALSE(timer.counts.contains("layer0 backward data"));
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

// As if another replica had rows of its own: every rank sees the statistics of all.
TEST(CpuBatchNorm, SumsStatisticsOverReplicas) {
  constexpr int64_t kChannels = 6;
  CpuAndOracle both(SegmentOf(Shape{3, 4, kChannels}, {BatchNorm{}}), DType::kFloat32, 4);
  both.SetInput(1);
  both.SetOutputGradient(2);
  std::vector<int64_t> counts[2];
  for (int i = 0; i < 2; ++i) {
    SegmentRun& run = i == 0 ? both.cpu : both.oracle;
    run.context().reduce_statistics = [&counts, i](Stream&, const Tensor& values) {
      double* sums = values.As<double>();
      counts[i].push_back(values.count());
      const bool is_forward = values.count() == 2 * kChannels + 1;
      for (int64_t c = 0; c < kChannels; ++c) {
        sums[c] += static_cast<double>(c) - 2;
        sums[kChannels + c] += 30;
      }
      if (is_forward) sums[2 * kChannels] += 24;
    };
    run.Forward(true);
    run.Backward();
  }
  EXPECT_EQ(counts[0], (std::vector<int64_t>{2 * kChannels + 1, 2 * kChannels}));
  EXPECT_EQ(counts[0], counts[1]);
  ExpectClose("output", ValuesOf(both.cpu.network().output()),
              ValuesOf(both.oracle.network().output()), ToleranceOf(DType::kFloat32));
  ExpectClose("input gradient", ValuesOf(both.cpu.network().input_gradient()),
              ValuesOf(both.oracle.network().input_gradient()), ToleranceOf(DType::kFloat32));
}

// The real network on smaller images, two rows. fp32: rounding grows through eight layers to about
// 1e-6, and single maxima and ReLUs fall the other way. bf16: eight roundings of 2^-9 forward and
// eight back, and one maximum in fifty falls the other way in each of three poolings.
TEST(CpuNetwork, RunsAlexNet2012AsTheOracleDoes) {
  const SegmentSpec segment =
      WholeNetwork(MakeModel("alexnet2012", {.classes = 100, .input = 131}));
  struct Numbers {
    double loss;
    std::vector<std::vector<double>> gradients;
  };
  const auto run_on = [&](std::unique_ptr<Backend> backend, DType dtype) {
    SegmentRun run(std::move(backend), segment, {.dtype = dtype, .batch = 2});
    run.InitializeParameters(3);
    run.SetLabelCount(100);
    SetValues(run.network().input(), RandomValues(run.network().input().count(), 4, 60));
    run.Forward(true);
    run.Backward();
    HostStream stream;
    Numbers numbers{.loss = run.network().ReadLoss(stream).loss, .gradients = {}};
    for (const ArenaEntry& entry : run.parameter_layout().entries()) {
      numbers.gradients.push_back(run.Gradient(entry.name));
    }
    return numbers;
  };
  const Numbers want = run_on(MakeOracleBackend(2), DType::kFloat64);
  for (const DType dtype : CpuTypes()) {
    const bool is_fp32 = dtype == DType::kFloat32;
    const Numbers got = run_on(MakeCpuBackend(2), dtype);
    EXPECT_NEAR(got.loss, want.loss, (is_fp32 ? 1e-6 : 1e-2) * want.loss);
    for (size_t i = 0; i < want.gradients.size(); ++i) {
      EXPECT_LE(DistanceOf(got.gradients[i], want.gradients[i]), is_fp32 ? 1e-4 : 0.35)
          << "parameter " << i << " " << NameOf(dtype);
    }
  }
}

}  // namespace
}  // namespace convoy
