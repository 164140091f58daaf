// What is the CUDA backend's own: steps that are recorded, and what a device refuses.
#include <regex>
#include <string>

#include "core/error.h"
#include "tests/backend/tested.h"

namespace convoy {
namespace {

// What may change from one recorded step to the next.
struct Settings {
  uint64_t seed = 5;
  int64_t epoch = 2;
  double loss_scale = 0.25;
  double lr = 1e-3;
};

// A network that trains, every step inside a StepRunner: forward, backward, and two updates of
// neighbouring ranges.
class Training {
 public:
  Training(DType dtype, bool records, const KernelChoices& choices = {})
      : run_(MakeTestedBackend(1, choices), SmallNetwork(),
             {.dtype = dtype, .batch = 6, .accumulates = true}),
        runner_(run_.backend().MakeStepRunner(records)) {
    const int64_t count = run_.parameter_layout().count();
    momentum_memory_ = run_.backend().Allocate(count * SizeOf(DType::kFloat32));
    momentum_ = ViewOf(momentum_memory_, DType::kFloat32, Shape{count});
    flag_memory_ = run_.backend().Allocate(SizeOf(DType::kInt32));
    non_finite_ = ViewOf(flag_memory_, DType::kInt32, Shape{1});
    UpdateOptions options{.rule = PaperRule{}};
    for (const ArenaEntry& entry : run_.parameter_layout().entries()) {
      options.ranges.push_back({.begin = entry.offset, .count = entry.shape.count()});
    }
    options.buckets = {{.first = 0, .count = 2},
                       {.first = 2, .count = std::ssize(options.ranges) - 2}};
    updater_ = run_.backend().CompileUpdate({.parameters = run_.arenas().parameters,
                                             .compute = run_.arenas().compute,
                                             .gradients = run_.arenas().gradients,
                                             .states = {momentum_},
                                             .non_finite = non_finite_},
                                            options);
    run_.SetInput(4);
  }
  ~Training() { run_.stream().Synchronize(); }

  // Does not wait for the device.
  void Step(const Settings& settings) {
    StepContext& context = run_.context();
    context.training = true;
    context.seed = settings.seed;
    context.epoch = settings.epoch;
    context.loss_scale = settings.loss_scale;
    updater_->SetRates(run_.stream(), RatesWith(settings.lr));
    runner_->Run(run_.stream(), context, [&] {
      ++times_queued;
      run_.Forward(true);
      if (allocates) run_.backend().Allocate(64);
      run_.Backward();
      if (adds_a_pass) {
        context.adds_gradients = true;
        run_.Forward(true);
        run_.Backward();
        context.adds_gradients = false;
      }
      for (const int bucket : {0, 1}) updater_->Run(run_.stream(), bucket);
    });
  }
  // Layers below the last two with weights do not learn from now on.
  void FreezeLowerLayers() {
    std::vector<bool> learns(11, false);
    learns[6] = learns[9] = true;
    run_.network().SetLearning(learns, false);
    runner_->Forget();
  }

  struct Result {
    std::vector<double> parameters, momentum;
    double loss = 0;
    bool operator==(const Result&) const = default;
  };
  Result Read() const {
    EXPECT_EQ(ElementsOf<int32_t>(run_.backend(), run_.stream(), non_finite_)[0], 0);
    return {run_.Values(run_.arenas().parameters), run_.Values(momentum_), run_.Loss().loss};
  }
  KernelChoices choices() const { return run_.backend().kernel_choices(); }

  int times_queued = 0;
  // A step has a second pass, whose gradients are added to those of the first.
  bool adds_a_pass = false;
  // What a recording may not hold stands in the middle of the step.
  bool allocates = false;
  std::string why_not_recorded() const { return runner_->why_not_recorded(); }

 private:
  // One per parameter, biases at twice the rate.
  std::vector<ParameterRates> RatesWith(double lr) const {
    std::vector<ParameterRates> rates;
    for (const ArenaEntry& entry : run_.parameter_layout().entries()) {
      rates.push_back({.lr = entry.name.ends_with(".bias") ? 2 * lr : lr,
                       .momentum = 0.9,
                       .weight_decay = 5e-4});
    }
    return rates;
  }

  Buffer momentum_memory_, flag_memory_;
  Tensor momentum_, non_finite_;
  mutable SegmentRun run_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Updater> updater_;
};

// Step by step. Settings stay for a step or two, as in a run, and go back too.
struct Change {
  std::string name;
  std::function<void(int step, Settings& settings)> apply;
};

std::ostream& operator<<(std::ostream& out, const Change& change) { return out << change.name; }

std::vector<Change> Changes() {
  const Change seed{"Seed", [](int step, Settings& s) { s.seed += step % 3 == 2 ? 1 : 0; }};
  const Change epoch{"Epoch", [](int step, Settings& s) { s.epoch += step / 4; }};
  const Change scale{"LossScale", [](int step, Settings& s) { s.loss_scale /= 1 + step % 4; }};
  // A rate of zero freezes.
  const Change rate{"Rate", [](int step, Settings& s) { s.lr *= step % 5; }};
  const Change all{"All", [=](int step, Settings& s) {
                     for (const Change* change : {&seed, &epoch, &scale, &rate}) {
                       change->apply(step, s);
                     }
                   }};
  return {seed, epoch, scale, rate, all};
}

class CudaSteps : public testing::TestWithParam<Change> {};

// Twelve steps without a wait: one that is under way keeps its settings.
constexpr int kSteps = 12;

TEST_P(CudaSteps, GiveTheSameBitsRecordedOrNot) {
  for (const DType dtype : TestedTypes()) {
    Training recorded(dtype, true);
    Training queued(dtype, false, recorded.choices());
    Training unchanged(dtype, false, recorded.choices());
    const auto before = queued.Read();
    for (int step = 0; step < kSteps; ++step) {
      Settings settings;
      unchanged.Step(settings);
      GetParam().apply(step, settings);
      recorded.Step(settings);
      queued.Step(settings);
    }
    const auto want = queued.Read();
    EXPECT_NE(want.parameters, before.parameters);
    EXPECT_NE(want.parameters, unchanged.Read().parameters) << "the setting has no effect";
    EXPECT_TRUE(recorded.Read() == want) << NameOf(dtype);
    EXPECT_EQ(queued.times_queued, kSteps);
    EXPECT_LE(recorded.times_queued, 2);
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaSteps, testing::ValuesIn(Changes()),
                         [](const auto& parameters) { return parameters.param.name; });

// The two passes see the same batch: gradients are twice as large.
TEST(CudaSteps, AddGradientsRecordedOrNot) {
  for (const DType dtype : TestedTypes()) {
    Training recorded(dtype, true);
    Training queued(dtype, false, recorded.choices());
    Training of_one_pass(dtype, false, recorded.choices());
    recorded.adds_a_pass = queued.adds_a_pass = true;
    for (int step = 0; step < kSteps; ++step) {
      for (Training* training : {&recorded, &queued, &of_one_pass}) training->Step({});
    }
    EXPECT_TRUE(recorded.Read() == queued.Read()) << NameOf(dtype);
    EXPECT_LE(recorded.times_queued, 2);
    EXPECT_NE(queued.Read().parameters, of_one_pass.Read().parameters);
  }
}

TEST(CudaSteps, AreQueuedAgainOnceForgotten) {
  Training recorded(DType::kFloat32, true);
  Training queued(DType::kFloat32, false, recorded.choices());
  for (int step = 0; step < kSteps; ++step) {
    if (step == 5) {
      const int times_queued = recorded.times_queued;
      recorded.FreezeLowerLayers();
      queued.FreezeLowerLayers();
      recorded.Step({});
      EXPECT_EQ(recorded.times_queued, times_queued + 1);
    } else {
      recorded.Step({});
    }
    queued.Step({});
  }
  EXPECT_TRUE(recorded.Read() == queued.Read());
  EXPECT_LE(recorded.times_queued, 4);
}

TEST(CudaSteps, AreQueuedOneByOneWhereTheyCannotBeRecorded) {
  Training recorded(DType::kFloat32, true);
  Training queued(DType::kFloat32, false, recorded.choices());
  recorded.allocates = true;
  for (int step = 0; step < kSteps; ++step) {
    recorded.Step({});
    queued.Step({});
  }
  EXPECT_TRUE(recorded.Read() == queued.Read());
  EXPECT_NE(recorded.why_not_recorded(), "");
  EXPECT_EQ(recorded.times_queued, kSteps + 1);
  EXPECT_EQ(queued.why_not_recorded(), "");
}

TEST(CudaBackend, SaysWhatItIs) {
  EXPECT_EQ(MakeTestedCudaBackend({})->Describe().substr(0, 8), "cuda:0: ");
}

TEST(CudaBackend, RefusesADeviceThatDoesNotExist) {
  for (const int device : {-1, 1000}) {
    try {
      MakeTestedCudaBackend({.device = device});
      ADD_FAILURE() << device;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
      EXPECT_NE(error.message().find("cuda:" + std::to_string(device)), std::string::npos);
    }
  }
}

// Two activations of 4 KiB a row: a batch of 1 TiB is beyond every device.
TEST(CudaBackend, SaysHowManyRowsFit) {
  constexpr int64_t kRowBytes = 8 << 10, kRows = int64_t{1} << 27;
  const auto backend = MakeTestedCudaBackend({});
  const SegmentSpec segment = SegmentOf(Shape{1024}, {Activation{}});
  const ArenaLayout empty;
  const NetworkArenas arenas{.parameter_layout = &empty, .buffer_layout = &empty};
  try {
    backend->Compile(segment, {.batch = kRows, .training = false}, arenas);
    ADD_FAILURE() << "1 TiB was compiled";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
    std::smatch match;
    const std::string hint = error.hint();
    ASSERT_TRUE(std::regex_search(hint, match, std::regex("about ([0-9]+) rows"))) << hint;
    const int64_t rows = std::stoll(match[1]);
    EXPECT_GT(rows, 0);
    EXPECT_LT(rows, kRows);
    // The emulated device has 64 GiB, and nobody else uses it.
    if (IsEmulated()) {
      const int64_t free_bytes = (int64_t{64} << 30) - backend->device_memory_in_use();
      EXPECT_EQ(rows, free_bytes * 9 / 10 / kRowBytes);  // operations keep a little besides
    }
  }
}

}  // namespace
}  // namespace convoy
