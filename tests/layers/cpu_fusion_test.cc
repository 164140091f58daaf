// Layers that the CPU backend fuses or runs in place: nothing but the time may change.
#include <algorithm>
#include <memory>

#include "tests/layers/cpu_compare.h"

namespace convoy {
namespace {

constexpr Activation kRelu{};
const Convolution kConv{.out_channels = 24, .kernel = 3, .padding = Padding::Same(1), .groups = 2};

struct Chain {
  std::string name;
  Shape input;
  std::vector<Layer> layers;
};

std::ostream& operator<<(std::ostream& out, const Chain& chain) { return out << chain.name; }

std::vector<Chain> Chains() {
  const Shape image{11, 9, 16};
  const FullyConnected fc{.out_features = 40};
  const Lrn lrn{.alpha = 0.3, .groups = 2};
  const Activation falling{ActivationKind::kElu, -0.5};
  return {
      {"ConvReluLrnPool", image, {kConv, kRelu, lrn, Pool{}}},
      {"ConvReluPool", image, {kConv, kRelu, Pool{}}},
      {"ConvReluLrn", image, {kConv, kRelu, lrn, kConv}},
      {"ConvReluConvRelu", image, {kConv, kRelu, kConv, kRelu}},
      {"ConvLrnPoolRelu", image, {kConv, lrn, Pool{}, kRelu}},
      {"ConvPoolReluDropout", image, {kConv, Pool{}, kRelu, Dropout{}, fc}},
      {"FullReluDropoutFull", Shape{30}, {fc, kRelu, Dropout{}, fc}},
      {"FullReluInvertedDropout", Shape{30}, {fc, kRelu, Dropout{0.3, DropoutForm::kInverted}}},
      {"NormReluPool", image, {kConv, BatchNorm{}, kRelu, Pool{}}},
      {"NormReluFull", image, {BatchNorm{}, kRelu, fc, BatchNorm{}, kRelu}},
      {"ConvTanhAverage",
       image,
       {kConv, Activation{ActivationKind::kTanh}, Pool{.kind = PoolKind::kAverage}}},
      {"FullSigmoidDropout", Shape{30}, {fc, Activation{ActivationKind::kSigmoid}, Dropout{}}},
      {"ConvReluSigmoid", image, {kConv, kRelu, Activation{ActivationKind::kSigmoid}}},
      {"FullReluDropoutSigmoid",
       Shape{30},
       {fc, kRelu, Dropout{}, Activation{ActivationKind::kSigmoid}}},
      {"ConvFallingEluDropout", image, {kConv, falling, Dropout{}}},
      {"AdaptiveDropoutFull", image, {AdaptiveAveragePool{3}, Dropout{}, fc}},
      {"DropoutReluDropout", image, {Dropout{}, kRelu, Dropout{}, Dropout{.rate = 0.1}}},
      {"ReluFirst", image, {kRelu, Pool{}, kRelu}},
      {"ActivationsAlone", image, {Activation{ActivationKind::kTanh}, falling, kRelu}},
  };
}

class CpuFusion : public testing::TestWithParam<Chain> {};

void CopyParameters(const SegmentRun& from, SegmentRun& to) {
  for (const ArenaEntry& entry : to.parameter_layout().entries()) {
    SetValues(to.parameter_layout().View(to.arenas().parameters, entry.name),
              ValuesOf(from.parameter_layout().View(from.arenas().parameters, entry.name)));
  }
}

// In fp32 nothing is rounded between two layers that would not be rounded inside a fused one, so
// that every number must be the same.
TEST_P(CpuFusion, EqualsItsLayersOneByOne) {
  const SegmentSpec segment = SegmentOf(GetParam().input, GetParam().layers);
  constexpr int64_t kRows = 4;
  SegmentRun whole(MakeCpuBackend(2), segment, {.batch = kRows});
  const auto input = RandomValues(whole.network().input().count(), 1);
  SetValues(whole.network().input(), input);
  whole.Forward(true);
  const auto output = ValuesOf(whole.network().output());
  const auto output_gradient = RandomValues(whole.network().output().count(), 2);
  SetValues(whole.network().output_gradient(), output_gradient);
  whole.Backward();

  std::vector<std::unique_ptr<SegmentRun>> parts;
  Shape shape = segment.input;
  auto values = input;
  for (size_t i = 0; i < segment.items.size(); ++i) {
    const SegmentSpec part{
        .input = shape, .items = {segment.items[i]}, .needs_input_gradient = true};
    parts.push_back(
        std::make_unique<SegmentRun>(MakeCpuBackend(2), part, CompileOptions{.batch = kRows}));
    CopyParameters(whole, *parts.back());
    SetValues(parts.back()->network().input(), values);
    parts.back()->Forward(true);
    values = ValuesOf(parts.back()->network().output());
    const Tensor activation = whole.network().Activation(static_cast<int>(i));
    if (activation) {
      EXPECT_EQ(ValuesOf(activation), values) << "activation " << i;
    }
    shape = OutputShape(segment.items[i].layer, shape);
  }
  EXPECT_EQ(output, values);
  values = output_gradient;
  for (size_t i = parts.size(); i-- > 0;) {
    SetValues(parts[i]->network().output_gradient(), values);
    parts[i]->Backward();
    values = ValuesOf(parts[i]->network().input_gradient());
    for (const ArenaEntry& entry : parts[i]->parameter_layout().entries()) {
      EXPECT_EQ(whole.Gradient(entry.name), parts[i]->Gradient(entry.name)) << entry.name;
    }
  }
  EXPECT_EQ(ValuesOf(whole.network().input_gradient()), values);
}

// What a chain rounds in bf16 the oracle does not round: where two values of a pooling window are
// nearer than 2^-8, the gradient goes to the other one. One window in fifty moves a gradient by
// sqrt(2 / 50) = 0.2 of its norm. In fp32 the batch norm of three rows magnifies 2^-24 a
// hundredfold.
TEST_P(CpuFusion, AgreesWithTheOracle) {
  const SegmentSpec segment = SegmentOf(GetParam().input, GetParam().layers);
  for (const DType dtype : CpuTypes()) {
    CpuAndOracle both(segment, dtype, 4);
    both.SetInput(1);
    both.SetOutputGradient(2);
    const double allowed = dtype == DType::kFloat32 ? 1e-5 : 0.2;
    for (SegmentRun* run : {&both.cpu, &both.oracle}) {
      run->Forward(true);
      run->Backward();
    }
    const auto expect_near = [&](const std::string& what, const std::vector<double>& got,
                                 const std::vector<double>& want) {
      EXPECT_LE(DistanceOf(got, want), allowed) << what << " " << NameOf(dtype);
    };
    expect_near("output", ValuesOf(both.cpu.network().output()),
                ValuesOf(both.oracle.network().output()));
    expect_near("input gradient", ValuesOf(both.cpu.network().input_gradient()),
                ValuesOf(both.oracle.network().input_gradient()));
    for (const ArenaEntry& entry : both.cpu.parameter_layout().entries()) {
      // Batch norm makes the bias before it idle: its gradient is rounding alone.
      const auto want = both.oracle.Gradient(entry.name);
      if (*std::max_element(want.begin(), want.end()) < 1e-9) continue;
      expect_near(entry.name, both.cpu.Gradient(entry.name), want);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuFusion, testing::ValuesIn(Chains()),
                         [](const auto& parameters) { return parameters.param.name; });

}  // namespace
}  // namespace convoy
