// Layers that a backend fuses or runs in place: nothing but the time may change.
#include <algorithm>
#include <cmath>
#include <memory>

#include "tests/backend/tested.h"

namespace convoy {
namespace {

constexpr Activation kRelu{};
// Vectors of every type divide the channels of a group, and do not.
const Convolution kConv{.out_channels = 32, .kernel = 3, .padding = Padding::Same(1), .groups = 2};
const Convolution kOddConv{
    .out_channels = 18, .kernel = 3, .padding = Padding::Same(1), .groups = 2};

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
      {"ConvReluLrnPoolOdd", image, {kOddConv, kRelu, lrn, Pool{}}},
      {"ConvReluLrnPoolCeil",
       Shape{8, 10, 16},
       {kConv, kRelu, lrn, Pool{.padding = {1, 0, 0, 2}, .rounding = Rounding::kCeil}}},
      {"ConvReluLrnPairs", image, {kConv, kRelu, lrn, Pool{.kernel = 2}}},
      {"ConvReluPool", image, {kConv, kRelu, Pool{}}},
      {"ConvReluPoolOdd", image, {kOddConv, kRelu, Pool{}}},
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

class Fusion : public testing::TestWithParam<Chain> {};

void CopyParameters(const SegmentRun& from, SegmentRun& to) {
  for (const ArenaEntry& entry : to.parameter_layout().entries()) {
    to.Set(to.parameter_layout().View(to.arenas().parameters, entry.name),
           from.Values(from.parameter_layout().View(from.arenas().parameters, entry.name)));
  }
}

// Bits may differ on a device: the batch norm of a few rows magnifies 2^-24 a hundredfold, and
// numbers are of order one, but for those that are only rounding.
void ExpectSame(const std::string& what, const std::vector<double>& got,
                const std::vector<double>& want) {
  if (FusionKeepsBits()) {
    EXPECT_EQ(got, want) << what;
    return;
  }
  ASSERT_EQ(got.size(), want.size()) << what;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += std::max(1.0, want[i] * want[i]);
  }
  EXPECT_LE(std::sqrt(difference), 1e-5 * std::sqrt(norm)) << what;
}

// In fp32 nothing is rounded between two layers that would not be rounded inside a fused one, so
// that every number must be the same.
TEST_P(Fusion, EqualsItsLayersOneByOne) {
  const SegmentSpec segment = SegmentOf(GetParam().input, GetParam().layers);
  constexpr int64_t kRows = 4;
  SegmentRun whole(MakeTestedBackend(2), segment, {.batch = kRows});
  const auto input = RandomValues(whole.network().input().count(), 1);
  whole.SetInput(input);
  whole.Forward(true);
  const auto output = whole.Output();
  const auto output_gradient = RandomValues(whole.network().output().count(), 2);
  whole.SetOutputGradient(output_gradient);
  whole.Backward();

  std::vector<std::unique_ptr<SegmentRun>> parts;
  const std::vector<LayerSite> sites = SitesOf(segment);
  auto values = input;
  for (size_t i = 0; i < segment.items.size(); ++i) {
    const SegmentSpec part{
        .input = sites[i].input, .items = {segment.items[i]}, .needs_input_gradient = true};
    parts.push_back(
        std::make_unique<SegmentRun>(MakeTestedBackend(2), part, CompileOptions{.batch = kRows}));
    CopyParameters(whole, *parts.back());
    parts.back()->SetInput(values);
    parts.back()->Forward(true);
    values = parts.back()->Output();
    const Tensor activation = whole.network().Activation(static_cast<int>(i));
    if (activation) {
      ExpectSame("activation " + std::to_string(i), whole.Values(activation), values);
    }
  }
  ExpectSame("output", output, values);
  values = output_gradient;
  for (size_t i = parts.size(); i-- > 0;) {
    parts[i]->SetOutputGradient(values);
    parts[i]->Backward();
    values = parts[i]->InputGradient();
    for (const ArenaEntry& entry : parts[i]->parameter_layout().entries()) {
      ExpectSame(entry.name, whole.Gradient(entry.name), parts[i]->Gradient(entry.name));
    }
  }
  ExpectSame("input gradient", whole.InputGradient(), values);
}

// What a chain rounds in bf16 the oracle does not round: if two values of a pooling window are
// nearer than 2^-8, the gradient goes to the other one. One window in fifty moves a gradient by
// sqrt(2 / 50) = 0.2 of its norm. In fp32 the batch norm of three rows magnifies 2^-24 a
// hundredfold.
TEST_P(Fusion, AgreesWithTheOracle) {
  const SegmentSpec segment = SegmentOf(GetParam().input, GetParam().layers);
  for (const DType dtype : TestedTypes()) {
    TestedAndOracle both(segment, dtype, 4);
    both.SetInput(1);
    both.SetOutputGradient(2);
    const double allowed = dtype == DType::kFloat32 ? 1e-5 : 0.2;
    for (SegmentRun* run : {&both.tested, &both.oracle}) {
      run->Forward(true);
      run->Backward();
    }
    const auto expect_near = [&](const std::string& what, const std::vector<double>& got,
                                 const std::vector<double>& want) {
      EXPECT_LE(DistanceOf(got, want), allowed) << what << " " << NameOf(dtype);
    };
    expect_near("output", both.tested.Output(), both.oracle.Output());
    expect_near("input gradient", both.tested.InputGradient(), both.oracle.InputGradient());
    for (const ArenaEntry& entry : both.tested.parameter_layout().entries()) {
      // Batch norm makes the bias before it idle: its gradient is only rounding.
      const auto want = both.oracle.Gradient(entry.name);
      if (*std::max_element(want.begin(), want.end()) < 1e-9) continue;
      expect_near(entry.name, both.tested.Gradient(entry.name), want);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Fusion, testing::ValuesIn(Chains()),
                         [](const auto& parameters) { return parameters.param.name; });

}  // namespace
}  // namespace convoy
