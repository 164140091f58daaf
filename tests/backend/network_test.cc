// What a backend does with a network: reporting, freezing, repeating itself exactly.
#include <algorithm>
#include <cmath>
#include <map>

#include "layers/models.h"
#include "tests/backend/tested.h"

namespace convoy {
namespace {

using Report = RecordingObserver::Report;
using Kind = RecordingObserver::Kind;

TEST(Network, ShowsActivationsThatWereNotFused) {
  SegmentRun run(MakeTestedBackend(1), SmallNetwork(), {.batch = 2});
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
  explicit SpoilingObserver(const SegmentRun& run) : run_(run) {}
  void GradientReady(int64_t begin, int64_t count) override {
    ready[begin] = run_.Values(run_.arenas().gradients.Range(begin, count));
  }
  void WeightsReleased(int64_t begin, int64_t count) override {
    EXPECT_TRUE(ready.contains(begin));
    run_.Set(run_.arenas().parameters.Range(begin, count),
             std::vector<double>(static_cast<size_t>(count), std::nan("")));
  }
  std::map<int64_t, std::vector<double>> ready;

 private:
  const SegmentRun& run_;
};

TEST(Network, ReportsRangesWhenTheyAreFinalAndNoLongerRead) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun plain(MakeTestedBackend(2), segment, {.batch = 3});
  SegmentRun spoiled(MakeTestedBackend(2, plain.backend().kernel_choices()), segment, {.batch = 3});
  for (SegmentRun* run : {&plain, &spoiled}) {
    run->SetInput(4);
    run->Forward(true);
  }
  plain.Backward();
  SpoilingObserver observer(spoiled);
  spoiled.network().Backward(spoiled.context(), observer);
  EXPECT_EQ(plain.InputGradient(), spoiled.InputGradient());
  for (const ArenaEntry& entry : plain.parameter_layout().entries()) {
    EXPECT_EQ(observer.ready.at(entry.offset), plain.Gradient(entry.name)) << entry.name;
  }
}

TEST(Network, ReportsFromTheLastLayerToTheFirst) {
  TestedAndOracle both(SmallNetwork(), DType::kFloat32, 2);
  std::vector<Report> reports[2];
  for (int i = 0; i < 2; ++i) {
    SegmentRun& run = i == 0 ? both.tested : both.oracle;
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
    EXPECT_EQ(of_kind[0].size(), both.tested.parameter_layout().entries().size());
  }
}

// Nothing below the last layer that learns is computed, nothing that does not learn is written.
TEST(Network, LeavesFrozenLayersAlone) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun run(MakeTestedBackend(2), segment, {.batch = 3});
  SegmentRun reference(MakeTestedBackend(2, run.backend().kernel_choices()), segment, {.batch = 3});
  for (SegmentRun* each : {&run, &reference}) {
    each->SetInput(4);
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
    run.Set(run.arenas().gradients,
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
  EXPECT_EQ(run.InputGradient(), reference.InputGradient());
}

TEST(Network, RepeatsItselfToTheLastBit) {
  const SegmentSpec segment = SmallNetwork();
  for (const DType dtype : TestedTypes()) {
    std::vector<std::vector<double>> gradients;
    KernelChoices choices;  // none, then those of the first run
    for (int i = 0; i < 3; ++i) {
      SegmentRun run(MakeTestedBackend(2, choices), segment, {.dtype = dtype, .batch = 8});
      choices = run.backend().kernel_choices();
      run.SetInput(4);
      for (int repetition = 0; repetition < 2; ++repetition) {
        run.Forward(true);
        run.Backward();
        gradients.push_back(run.Gradients());
      }
    }
    for (const auto& gradient : gradients) EXPECT_EQ(gradient, gradients.front());
  }
}

TEST(Network, EvaluatesTheSameWhenCompiledWithoutTraining) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun training(MakeTestedBackend(2), segment, {.batch = 3});
  SegmentRun evaluation(MakeTestedBackend(2), segment, {.batch = 3, .training = false});
  for (SegmentRun* run : {&training, &evaluation}) {
    run->SetInput(4);
    run->Forward(false);
  }
  ExpectClose("probabilities", evaluation.Output(), training.Output(),
              ToleranceOf(DType::kFloat32, 100));
  EXPECT_FALSE(evaluation.network().output_gradient());
  EXPECT_FALSE(evaluation.network().input_gradient());
  EXPECT_THROW(evaluation.Backward(), Error);
}

TEST(Network, KeepsLogitsAndProbabilitiesInFloat32) {
  if (TestedTypes().size() < 2) GTEST_SKIP() << "no bf16 without AVX-512";
  const SegmentSpec segment = SmallNetwork();
  SegmentRun run(MakeTestedBackend(1), segment, {.dtype = DType::kBFloat16, .batch = 2});
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

TEST(Network, TimesEveryOperation) {
  SegmentSpec segment = SmallNetwork();
  segment.needs_input_gradient = false;
  SegmentRun run(MakeTestedBackend(1), segment, {.batch = 2});
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
}

// As if another replica had rows of its own: every rank sees the statistics of all.
TEST(BatchNorm, SumsStatisticsOverReplicas) {
  constexpr int64_t kChannels = 6;
  TestedAndOracle both(SegmentOf(Shape{3, 4, kChannels}, {BatchNorm{}}), DType::kFloat32, 4);
  both.SetInput(1);
  both.SetOutputGradient(2);
  std::vector<int64_t> counts[2];
  for (int i = 0; i < 2; ++i) {
    SegmentRun& run = i == 0 ? both.tested : both.oracle;
    run.context().reduce_statistics = [&, i](Stream& stream, const Tensor& values) {
      auto sums = ElementsOf<double>(run.backend(), stream, values);
      counts[i].push_back(values.count());
      const bool is_forward = values.count() == 2 * kChannels + 1;
      for (size_t c = 0; c < kChannels; ++c) {
        sums[c] += static_cast<double>(c) - 2;
        sums[kChannels + c] += 30;
      }
      if (is_forward) sums[2 * kChannels] += 24;
      SetElements(run.backend(), stream, values, sums);
    };
    run.Forward(true);
    run.Backward();
  }
  EXPECT_EQ(counts[0], (std::vector<int64_t>{2 * kChannels + 1, 2 * kChannels}));
  EXPECT_EQ(counts[0], counts[1]);
  ExpectClose("output", both.tested.Output(), both.oracle.Output(), ToleranceOf(DType::kFloat32));
  ExpectClose("input gradient", both.tested.InputGradient(), both.oracle.InputGradient(),
              ToleranceOf(DType::kFloat32));
}

// One value has no variance. Otherwise the running one would shrink to 0, and evaluation divides by
// its root. Of two rows, the second is padding.
TEST(BatchNorm, OfOneValueLeavesTheRunningVariance) {
  constexpr int64_t kChannels = 6;
  for (const int64_t rows : {1, 2}) {
    TestedAndOracle both(SegmentOf(Shape{kChannels}, {BatchNorm{}}), DType::kFloat32, rows);
    both.SetInput(1);
    for (SegmentRun* run : {&both.tested, &both.oracle}) {
      const std::vector<double> before = run->BufferValues();
      run->Forward(true);
      const std::vector<double> after = run->BufferValues();
      int64_t changed = 0;
      for (size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i];
      EXPECT_EQ(changed, kChannels) << "the means alone, of " << rows << " rows";
    }
  }
}

// The real network on smaller images, two rows. fp32: rounding grows through eight layers to about
// 1e-6, and single maxima and ReLUs fall the other way. bf16: eight roundings of 2^-9 forward and
// eight back, and one maximum in fifty falls the other way in each of three poolings.
TEST(Network, RunsAlexNet2012AsTheOracleDoes) {
  const int64_t input = IsEmulated() ? 67 : 131;
  const SegmentSpec segment =
      WholeNetwork(MakeModel("alexnet2012", {.classes = 100, .input = input}));
  struct Numbers {
    double loss;
    std::vector<std::vector<double>> gradients;
  };
  const auto run_on = [&](std::unique_ptr<Backend> backend, DType dtype) {
    SegmentRun run(std::move(backend), segment, {.dtype = dtype, .batch = 2});
    run.InitializeParameters(3);
    run.SetLabelCount(100);
    run.SetInput(4, 60);
    run.Forward(true);
    run.Backward();
    Numbers numbers{.loss = run.Loss().loss, .gradients = {}};
    for (const ArenaEntry& entry : run.parameter_layout().entries()) {
      numbers.gradients.push_back(run.Gradient(entry.name));
    }
    return numbers;
  };
  const Numbers want = run_on(MakeOracleBackend(2), DType::kFloat64);
  for (const DType dtype : TestedTypes()) {
    const bool is_fp32 = dtype == DType::kFloat32;
    const Numbers got = run_on(MakeTestedBackend(2), dtype);
    EXPECT_NEAR(got.loss, want.loss, (is_fp32 ? 1e-6 : 1e-2) * want.loss);
    for (size_t i = 0; i < want.gradients.size(); ++i) {
      EXPECT_LE(DistanceOf(got.gradients[i], want.gradients[i]), is_fp32 ? 1e-4 : 0.35)
          << "parameter " << i << " " << NameOf(dtype);
    }
  }
}

}  // namespace
}  // namespace convoy
