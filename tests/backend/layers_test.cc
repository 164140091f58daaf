// Every layer and option against the oracle, forward and backward, fp32 and
// bf16. Inputs, weights and gradients are bf16 numbers, which both hold exactly, so that what is
// left is the rounding of sums (fp32 in both types) and of what is stored.
#include <algorithm>
#include <cmath>
#include <map>

#include "layers/analysis.h"
#include "tests/backend/tested.h"

namespace convoy {
namespace {

struct Case {
  std::string name;
  Shape input;
  Layer layer;
  int64_t sum_length = 1;  // products per output; gradients of weights: places times rows
  // A derivative that is computed from y inherits the rounding of y, not relative to itself but to
  // the largest y: in bf16, 2^-9.
  bool derivative_from_output = false;
};

constexpr int64_t kRows = 3;

std::ostream& operator<<(std::ostream& out, const Case& test_case) { return out << test_case.name; }

class Layer : public testing::TestWithParam<std::tuple<Case, DType>> {
 protected:
  void SetUp() override {
    dtype_ = std::get<1>(GetParam());
    const std::vector<DType> types = TestedTypes();
    if (std::find(types.begin(), types.end(), dtype_) == types.end()) {
      GTEST_SKIP() << "no bf16 without AVX-512";
    }
  }
  DType dtype_ = DType::kFloat32;
};

TEST_P(Layer, AgreesWithTheOracle) {
  const Case& test_case = std::get<0>(GetParam());
  const SegmentSpec segment = SegmentOf(test_case.input, {test_case.layer});
  TestedAndOracle both(segment, dtype_, kRows);
  SegmentRun &tested = both.tested, &oracle = both.oracle;
  const bool is_loss = std::holds_alternative<SoftmaxCrossEntropy>(test_case.layer);
  if (is_loss) {
    tested.SetLabelCount(static_cast<int32_t>(test_case.input.back()));
    oracle.SetLabelCount(static_cast<int32_t>(test_case.input.back()));
  }
  both.SetInput(11, is_loss ? 3 : 1);
  const Tensor output = tested.network().output();
  const Tolerance forward = ToleranceOf(output.dtype, test_case.sum_length);

  tested.Forward(false);
  oracle.Forward(false);
  ExpectClose("output in evaluation", tested.Output(), oracle.Output(), forward);

  tested.Forward(true);
  oracle.Forward(true);
  ExpectClose("output", tested.Output(), oracle.Output(), forward);
  ExpectClose("buffers", tested.BufferValues(), oracle.BufferValues(),
              ToleranceOf(DType::kFloat32));
  if (is_loss) {
    const LossSums got = tested.Loss(), want = oracle.Loss();
    EXPECT_NEAR(got.loss, want.loss, 1e-6 * std::abs(want.loss));
    EXPECT_EQ(got.weight, want.weight);
    EXPECT_EQ(got.top1, want.top1);
    EXPECT_EQ(got.top5, want.top5);
  }

  both.SetOutputGradient(12);
  tested.Backward();
  oracle.Backward();
  Tolerance backward = ToleranceOf(dtype_, test_case.sum_length);
  if (test_case.derivative_from_output && dtype_ == DType::kBFloat16) backward.of_rms = 0x1p-6;
  ExpectClose("input gradient", tested.InputGradient(), oracle.InputGradient(), backward);
  const int64_t places = output.count() / output.shape.back();
  for (const ArenaEntry& entry : tested.parameter_layout().entries()) {
    ExpectClose(entry.name, tested.Gradient(entry.name), oracle.Gradient(entry.name),
                ToleranceOf(DType::kFloat32, places));
  }
}

std::vector<double> SumOf(std::vector<double> values, const std::vector<double>& others) {
  for (size_t i = 0; i < values.size(); ++i) values[i] += others[i];
  return values;
}

// Two passes of which the second adds give the sum of two that write. `tolerance`: of the gradient
// of the parameter whose output has so many places.
void ExpectThatBackwardAdds(SegmentRun& run, const Tolerance& tolerance) {
  using Gradients = std::map<std::string, std::vector<double>>;
  const auto run_pass = [&](uint64_t seed, bool adds) {
    run.SetInput(seed);
    run.Forward(true);
    run.SetOutputGradient(seed + 1);
    run.context().adds_gradients = adds;
    run.Backward();
    Gradients gradients;
    for (const ArenaEntry& entry : run.parameter_layout().entries()) {
      gradients[entry.name] = run.Gradient(entry.name);
    }
    return gradients;
  };
  const Gradients first = run_pass(11, false), second = run_pass(13, false);
  const std::vector<double> input_gradient = run.InputGradient();
  run_pass(11, false);
  for (const auto& [name, got] : run_pass(13, true)) {
    ExpectClose(name, got, SumOf(first.at(name), second.at(name)), tolerance);
  }
  EXPECT_EQ(run.InputGradient(), input_gradient) << "the gradient of the input is never added";
  EXPECT_EQ(run_pass(11, false), first) << "writes again after it added";
}

class LayerThatLearns : public Layer {};

// Gradients are summed and added in fp32, whatever the activations are: each sum of products, and
// the sum of both, rounds as one sum of twice the length may.
TEST_P(LayerThatLearns, AddsItsGradients) {
  const Case& test_case = std::get<0>(GetParam());
  const SegmentSpec segment = SegmentOf(test_case.input, {test_case.layer});
  SegmentRun tested(MakeTestedBackend(2), segment,
                    {.dtype = dtype_, .batch = kRows, .accumulates = true});
  const Shape& output = tested.network().output().shape;
  ExpectThatBackwardAdds(tested, ToleranceOf(DType::kFloat32, 2 * output.count() / output.back()));
  SegmentRun oracle(MakeOracleBackend(2), segment,
                    {.dtype = DType::kFloat64, .batch = kRows, .accumulates = true});
  ExpectThatBackwardAdds(oracle, {.of_rms = 1e-12});
}

Case Conv(const std::string& name, const Shape& input, const Convolution& conv) {
  return {"Conv" + name, input, conv, conv.kernel * conv.kernel * input[2] / conv.groups};
}
Case Full(const std::string& name, const Shape& input, const FullyConnected& fc) {
  return {"Full" + name, input, fc, input.count()};
}
Case Act(const std::string& name, ActivationKind kind, double slope, bool from_output) {
  return {"Act" + name, Shape{3, 5, 7}, Activation{kind, slope}, 1, from_output};
}
Case Norm(const std::string& name, const Shape& input, const Lrn& lrn) {
  return {"Lrn" + name, input, lrn, lrn.size};
}
Case Max(const std::string& name, const Shape& input, Pool pool) {
  return {"Max" + name, input, pool};
}
Case Average(const std::string& name, const Shape& input, Pool pool) {
  pool.kind = PoolKind::kAverage;
  return {"Average" + name, input, pool, pool.kernel * pool.kernel};
}

std::vector<Case> Cases() {
  const Padding uneven{.top = 1, .left = 0, .bottom = 2, .right = 3};
  return {
      Conv("FirstOf2012", Shape{35, 31, 3},
           {.out_channels = 96, .kernel = 11, .stride = 4, .padding = {0, 0, 3, 3}}),
      Conv("FirstOf2012Folded", Shape{24, 36, 3},
           {.out_channels = 96, .kernel = 11, .stride = 4, .padding = {0, 0, 3, 3}}),
      Conv("FoldedWithPadding", Shape{9, 12, 5},
           {.out_channels = 8, .kernel = 4, .stride = 2, .padding = {1, 2, 0, 4}}),
      Conv("FoldedPartOfLine", Shape{7, 12, 2},
           {.out_channels = 8, .kernel = 3, .stride = 3, .padding = {0, 0, 0, 0}}),
      Conv("TorchvisionFirst", Shape{32, 32, 3},
           {.out_channels = 64, .kernel = 11, .stride = 4, .padding = Padding::Same(2)}),
      Conv("OneChannel", Shape{14, 14, 1},
           {.out_channels = 6, .kernel = 5, .padding = Padding::Same(2)}),
      Conv("GroupsOf48", Shape{9, 9, 96},
           {.out_channels = 128, .kernel = 5, .padding = Padding::Same(2), .groups = 2}),
      Conv("GroupsOf192", Shape{5, 6, 384},
           {.out_channels = 256, .kernel = 3, .padding = Padding::Same(1), .groups = 2}),
      Conv("OddGroups", Shape{7, 9, 6},
           {.out_channels = 10, .kernel = 3, .padding = Padding::Same(1), .groups = 2}),
      Conv("GroupPerChannel", Shape{6, 5, 8}, {.out_channels = 16, .kernel = 3, .groups = 8}),
      Conv("OnePixel", Shape{1, 1, 5}, {.out_channels = 7, .kernel = 1}),
      Conv("StrideBeyondKernel", Shape{11, 10, 6}, {.out_channels = 9, .kernel = 2, .stride = 3}),
      Conv("UnevenPadding", Shape{8, 7, 13}, {.out_channels = 17, .kernel = 5, .padding = uneven}),
      Conv("WithoutBias", Shape{6, 6, 16},
           {.out_channels = 32, .kernel = 3, .padding = Padding::Same(1), .has_bias = false}),
      Full("OfImage", Shape{3, 2, 5}, {.out_features = 7}),
      Full("Flat", Shape{33}, {.out_features = 10}),
      Full("OneToOne", Shape{1}, {.out_features = 1}),
      Full("Wide", Shape{2, 2, 256}, {.out_features = 1000}),
      Full("WithoutBias", Shape{40}, {.out_features = 24, .has_bias = false}),
      Act("Relu", ActivationKind::kRelu, 0, false),
      Act("Tanh", ActivationKind::kTanh, 0, true),
      Act("Sigmoid", ActivationKind::kSigmoid, 0, true),
      Act("Leaky", ActivationKind::kLeakyRelu, 0.01, false),
      Act("LeakyFalling", ActivationKind::kLeakyRelu, -0.5, false),
      Act("LeakyFlat", ActivationKind::kLeakyRelu, 0, false),
      Act("Elu", ActivationKind::kElu, 1, true),
      Act("EluFalling", ActivationKind::kElu, -0.3, true),
      Norm("OfPaper", Shape{5, 4, 24}, {}),
      Norm("InTowers", Shape{4, 3, 96}, {.alpha = 0.5, .k = 1, .groups = 2}),
      Norm("DividedBySize", Shape{3, 3, 10},
           {.alpha = 2, .alpha_use = LrnAlpha::kDividedBySize, .k = 1}),
      Norm("WiderThanGroup", Shape{2, 3, 10}, {.size = 9, .alpha = 0.2, .groups = 2}),
      Norm("OtherBeta", Shape{3, 2, 7}, {.size = 3, .alpha = 0.7, .beta = 0.5}),
      Norm("OfOneChannel", Shape{2, 2, 1}, {.size = 1, .alpha = 1}),
      Max("Overlapping", Shape{13, 13, 96}, {}),
      Max("Pairs", Shape{6, 8, 7}, {.kernel = 2, .stride = 2}),
      Max("Ceil", Shape{8, 6, 5}, {.rounding = Rounding::kCeil}),
      Max("CeilPairs", Shape{5, 7, 9}, {.kernel = 2, .rounding = Rounding::kCeil}),
      Max("Padded", Shape{7, 6, 11}, {.padding = {1, 0, 0, 2}}),
      Max("StrideBeyondKernel", Shape{10, 9, 3}, {.kernel = 2, .stride = 3}),
      Max("PaddedTwice", Shape{6, 7, 16}, {.padding = {2, 2, 1, 2}, .rounding = Rounding::kCeil}),
      Max("StrideOfOne", Shape{5, 6, 8}, {.stride = 1}),
      Max("Wide", Shape{9, 9, 4}, {.kernel = 5, .stride = 1, .padding = Padding::Same(2)}),
      Max("OnePixel", Shape{1, 1, 16}, {.kernel = 1, .stride = 1}),
      Average("Overlapping", Shape{7, 9, 10}, {}),
      Average("IncludesPadding", Shape{6, 6, 3},
              {.padding = Padding::Same(1), .rounding = Rounding::kCeil}),
      Average("ExcludesPadding", Shape{6, 6, 3},
              {.padding = {1, 0, 1, 1},
               .rounding = Rounding::kCeil,
               .divisor = AverageDivisor::kExcludePadding}),
      Average("StrideBeyondKernel", Shape{9, 8, 17}, {.kernel = 1, .stride = 3}),
      {"AdaptiveToOne", Shape{7, 5, 9}, AdaptiveAveragePool{1}, 35},
      {"AdaptiveUneven", Shape{13, 11, 6}, AdaptiveAveragePool{6}, 9},
      {"AdaptiveWider", Shape{3, 2, 5}, AdaptiveAveragePool{4}, 4},
      {"BatchNormOfImage", Shape{5, 3, 13}, BatchNorm{}, 45},
      {"BatchNormFlat", Shape{21}, BatchNorm{.epsilon = 1e-3, .momentum = 0.3}, 3},
      {"Dropout2012", Shape{3, 3, 10}, Dropout{.rate = 0.5}},
      {"DropoutInverted", Shape{37}, Dropout{0.3, DropoutForm::kInverted}},
      {"DropoutOfNothing", Shape{8}, Dropout{.rate = 0}},
      {"Loss", Shape{10}, SoftmaxCrossEntropy{}},
      {"LossOf1000", Shape{1000}, SoftmaxCrossEntropy{}},
      {"LossSmoothed", Shape{7}, SoftmaxCrossEntropy{0.1}},
      {"LossOfOneClass", Shape{1}, SoftmaxCrossEntropy{}},
  };
}

std::vector<Case> CasesThatLearn() {
  std::vector<Case> cases = Cases();
  std::erase_if(cases, [](const Case& test_case) {
    return ParametersOf({"layer", test_case.layer}, test_case.input).empty();
  });
  return cases;
}

std::string NameOfCase(const testing::TestParamInfo<std::tuple<Case, DType>>& parameters) {
  return std::get<0>(parameters.param).name + "_" + NameOf(std::get<1>(parameters.param));
}

INSTANTIATE_TEST_SUITE_P(All, Layer,
                         testing::Combine(testing::ValuesIn(Cases()),
                                          testing::Values(DType::kFloat32, DType::kBFloat16)),
                         NameOfCase);
INSTANTIATE_TEST_SUITE_P(All, LayerThatLearns,
                         testing::Combine(testing::ValuesIn(CasesThatLearn()),
                                          testing::Values(DType::kFloat32, DType::kBFloat16)),
                         NameOfCase);

// Integers from -1 to 1: ties in every window.
TEST(MaxPool, GivesTheGradientToTheFirstOfEqualValues) {
  for (const Pool& pool :
       {Pool{}, Pool{.kernel = 2, .padding = {1, 1, 0, 0}}, Pool{.padding = {2, 1, 0, 2}},
        Pool{.kernel = 4, .stride = 1, .rounding = Rounding::kCeil}}) {
    TestedAndOracle both(SegmentOf(Shape{9, 8, 5}, {pool}), DType::kFloat32, 2);
    std::vector<double> values = RandomValues(both.tested.network().input().count(), 5);
    for (double& value : values) value = std::round(std::clamp(value, -1.0, 1.0));
    both.SetInput(values);
    both.SetOutputGradient(6);
    for (SegmentRun* run : {&both.tested, &both.oracle}) {
      run->Forward(true);
      run->Backward();
    }
    EXPECT_EQ(both.tested.Output(), both.oracle.Output());
    ExpectClose("input gradient", both.tested.InputGradient(), both.oracle.InputGradient(),
                ToleranceOf(DType::kFloat32, 4));
  }
}

// The slice of a tower: its mask is that part of the uncut layer's mask.
TEST(Dropout, DrawsTheMaskOfItsSlice) {
  for (const Shape& input : {Shape{11}, Shape{2, 3, 5}}) {
    SegmentSpec segment = SegmentOf(input, {Dropout{.rate = 0.4}});
    segment.items[0].output = {.begin = 7, .count = input.back(), .total = 23};
    segment.items[0].uncut_index = 5;
    TestedAndOracle both(segment, DType::kFloat32, 4);
    both.SetInput(1);
    both.SetOutputGradient(2);
    for (SegmentRun* run : {&both.tested, &both.oracle}) {
      run->Forward(true);
      run->Backward();
    }
    EXPECT_EQ(both.tested.Output(), both.oracle.Output());
    EXPECT_EQ(both.tested.InputGradient(), both.oracle.InputGradient());
  }
}

// Eight channels worked by hand; the gradients agree with finite differences to 2e-10.
TEST(Lrn, GivesTheWorkedPixel) {
  struct Row {
    Lrn lrn;
    std::vector<double> b, da;
  };
  const std::vector<Row> rows = {
      {{.alpha = 2e-5},
       {5.884357, 11.631335, 17.135998, 22.864254, 27.946353, 0, 32.659863, 44.286665},
       {0.5880410, -0.5953720, 0.2706821, 1.1268040, -0.3138871, 0.5385962, 0.2135999, -1.0192505}},
      {{.alpha = 1e-4},
       {5.651838, 10.708635, 14.866753, 19.880839, 22.735027, 0, 24.787843, 35.095307},
       {0.5638335, -0.5850949, 0.1911705, 0.9344099, -0.3511104, 0.3985054, 0.3324656, -0.6195013}},
      {{.alpha = 1e-4, .alpha_use = LrnAlpha::kDividedBySize, .k = 1},
       {9.795016, 19.144790, 27.741441, 37.038652, 44.388891, 0, 50.753821, 69.775676},
       {0.9783127, -0.9997315, 0.4156629, 1.8011071, -0.5497386, 0.8300113, 0.4366169, -1.4896510}},
      {{.alpha = 2e-5, .groups = 2},
       {5.884357, 11.631335, 17.447003, 23.279624, 28.438781, 0, 32.659863, 44.286665},
       {}},
  };
  for (const Row& row : rows) {
    SegmentRun run(MakeTestedBackend(1), SegmentOf(Shape{1, 1, 8}, {row.lrn}), {.batch = 1});
    run.SetInput({10, 20, 30, 40, 50, 0, 60, 80});
    run.Forward(true);
    run.SetOutputGradient({1, -1, 0.5, 2, -0.5, 1, 0.25, -2});
    run.Backward();
    // The page has seven digits.
    ExpectClose("b", run.Output(), row.b, {.relative = 1e-6, .of_rms = 1e-7});
    if (row.da.empty()) continue;
    ExpectClose("da", run.InputGradient(), row.da, {.relative = 1e-6, .of_rms = 1e-7});
  }
}

}  // namespace
}  // namespace convoy
