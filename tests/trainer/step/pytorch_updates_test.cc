// Fifty steps of every optimiser that PyTorch has too, against what PyTorch computes:
// pytorch_updates.py wrote the figures, and says what is trained.
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "tests/backend/compare.h"
#include "tests/trainer/harness.h"

namespace convoy {
namespace {

constexpr int kSteps = 50;
constexpr int64_t kBatch = 6;

using Weights = std::map<std::string, std::vector<double>>;  // by parameter

struct Case {
  std::string name;
  OptimizerOptions optimizer;
};

std::ostream& operator<<(std::ostream& out, const Case& tested) { return out << tested.name; }

// Two groups: weights, and biases with twice the rate and no decay (the network's own multipliers);
// fc1.bias is frozen for ten steps.
std::vector<Case> Cases() {
  const auto with = [](const UpdateRule& rule, double lr, double decay, double clip_norm = 0) {
    OptimizerOptions options{.rule = rule,
                             .lr = lr,
                             .weight_decay = decay,
                             .clip_norm = clip_norm,
                             .lr_scheduler = Schedule::Parse("multistep:20,35:0.5", "test")};
    options.groups = {ParameterGroup::Parse(
        fmt::format("fc1.bias lr-scheduler=piecewise:0=0,10={},20={},35={}", lr, lr / 2, lr / 4))};
    return options;
  };
  return {{"sgd", with(SgdRule{}, 0.1, 0.01)},
          {"nesterov", with(NesterovRule{}, 0.1, 0.01)},
          {"adam", with(AdamRule{}, 0.01, 0.01)},
          {"adamw", with(AdamWRule{}, 0.01, 0.1)},
          {"sgd-clipped", with(SgdRule{}, 0.1, 0.01, 0.5)}};
}

NetworkSpec TwoLayers() {
  const auto full = [](int out) {
    return FullyConnected{
        .out_features = out, .weight = {{InitKind::kHe}}, .bias = {{InitKind::kConstant, 0}, 2, 0}};
  };
  return {.name = "two-layers",
          .input = Shape{2, 2, 3},
          .classes = 4,
          .layers = {{"fc1", full(6)},
                     {"relu1", Activation{}},
                     {"fc2", full(4)},
                     {"loss", SoftmaxCrossEntropy{}}}};
}

Weights FiguresOf(const std::string& name) {
  std::ifstream file(CONVOY_SOURCE_DIR "/tests/trainer/step/pytorch_updates.txt");
  EXPECT_TRUE(file.good());
  Weights figures;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string of, parameter;
    words >> of >> parameter;
    if (of != name) continue;
    for (double value = 0; words >> value;) figures[parameter].push_back(value);
  }
  return figures;
}

Weights Train(const OptimizerOptions& optimizer, const GridShape& grid, DType dtype,
              const std::function<std::unique_ptr<Backend>()>& make_backend) {
  Weights result;
  RunAsThreads(grid.ranks(), {}, [&](World& world) {
    Harness harness(world,
                    {.network = TwoLayers(),
                     .grid = grid,
                     .batch = kBatch,
                     .optimizer = optimizer,
                     .preprocessing = {.mean = {120, 120, 120}, .standard_deviation = {60, 60, 60}},
                     .make_backend = make_backend,
                     .dtype = dtype});
    const std::vector<ParameterSlice>& parameters = harness.plan().parameters;
    for (size_t index = 0; index < parameters.size(); ++index) {
      const Tensor view = harness.store().parameter_layout().View(harness.store().parameters(),
                                                                  parameters[index].uncut.name);
      std::vector<double> values;
      for (int64_t k = 0; k < view.count(); ++k) {
        values.push_back(0.4 *
                         std::sin(1.7 * static_cast<double>(k) + 0.3 * static_cast<double>(index)));
      }
      harness.Write(values, view);
    }
    for (int step = 0; step < kSteps; ++step) {
      const Batch batch = harness.MakeBatch(
          0, step * kBatch, kBatch,
          [](int64_t position, int64_t i) {
            return static_cast<uint8_t>((position * 37 + i * 91 + position * i % 7 * 11) % 256);
          },
          [](int64_t position) {
            return static_cast<int32_t>((position * position + position / 3) % 4);
          });
      harness.Step(batch, step);
    }
    if (world.rank() != 0) return;
    for (const ParameterSlice& slice : parameters) {
      result[slice.uncut.name] = harness.Read(
          harness.store().parameter_layout().View(harness.store().parameters(), slice.uncut.name));
    }
  });
  return result;
}

class PyTorchUpdates : public testing::TestWithParam<Case> {};

// 1e-10 after fifty steps: roundings of 2^-53 grow with the steps.
TEST_P(PyTorchUpdates, AreThoseOfTheOracle) {
  const Weights want = FiguresOf(GetParam().name);
  ASSERT_EQ(want.size(), 4u);
  for (const GridShape& grid : {GridShape{}, GridShape{.replicas = 2}}) {
    const Weights got =
        Train(GetParam().optimizer, grid, DType::kFloat64, [] { return MakeOracleBackend(1); });
    for (const auto& [name, values] : want) {
      ASSERT_EQ(got.at(name).size(), values.size()) << name;
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_NEAR(got.at(name)[i], values[i], 1e-10) << name << " " << i;
      }
    }
  }
}

// In fp32 a step rounds each weight by up to 2^-24 of it, and gradients feel that of the steps
// before: fifty steps stay within 1e-5, a hundred and seventy times 2^-24. Adam divides by the size
// of its gradient, so if that is small a rounding of it moves the weight by a part of a step:
// 1e-4, one hundredth of a step.
TEST_P(PyTorchUpdates, AreThoseOfTheCpuInFp32) {
  const bool is_adam = GetParam().name.starts_with("adam");
  const Weights want = FiguresOf(GetParam().name);
  const Weights got =
      Train(GetParam().optimizer, {}, DType::kFloat32, [] { return MakeCpuBackend(1); });
  for (const auto& [name, values] : want) {
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(got.at(name)[i], values[i], is_adam ? 1e-4 : 1e-5) << name << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, PyTorchUpdates, testing::ValuesIn(Cases()), [](const auto& instance) {
  std::string name = instance.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace convoy
