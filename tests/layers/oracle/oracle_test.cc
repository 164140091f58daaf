// The oracle against numbers that were published or worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/random.h"
#include "layers/backend.h"
#include "layers/models.h"
#include "layers/network.h"
#include "layers/operations/dropout_mask.h"

namespace convoy {
namespace {

class NoObserver final : public BackwardObserver {
 public:
  void GradientReady(int64_t, int64_t) override {}
  void WeightsReleased(int64_t, int64_t) override {}
};

// A layer without parameters, run on `x` with upstream gradient `dy`.
struct Result {
  std::vector<double> y, dx;
};
Result RunLayer(const Layer& layer, const Shape& shape, const std::vector<double>& x,
                const std::vector<double>& dy, bool training = true) {
  const auto backend = MakeOracleBackend(1);
  SegmentSpec segment = WholeNetwork({.name = "one", .input = shape, .layers = {{"a", layer}}});
  segment.needs_input_gradient = true;
  const ArenaLayout empty;
  const Buffer nothing = AllocateHost(0);
  const Tensor none = ViewOf(nothing, DType::kFloat64, Shape{0});
  const auto network = backend->Compile(segment, {.dtype = DType::kFloat64, .batch = 1},
                                        {&empty, none, none, none, &empty, none});
  std::copy(x.begin(), x.end(), network->input().As<double>());
  HostStream stream;
  int64_t position = 5;
  const StepContext context{.stream = &stream,
                            .training = training,
                            .seed = 3,
                            .rows = {.positions = {&position, DType::kInt64, Shape{1}}}};
  network->Forward(context);
  std::copy(dy.begin(), dy.end(), network->output_gradient().As<double>());
  NoObserver observer;
  network->Backward(context, observer);
  const auto values = [](const Tensor& tensor) {
    return std::vector<double>(tensor.As<double>(), tensor.As<double>() + tensor.count());
  };
  return {values(network->output()), values(network->input_gradient())};
}

// The worked pixel of the reference (eight channels), to its last printed digit.
struct WorkedPixel {
  std::string name;
  Lrn lrn;
  std::vector<double> y, dx;
};

class LrnWorkedPixel : public ::testing::TestWithParam<WorkedPixel> {};

TEST_P(LrnWorkedPixel, IsReproduced) {
  const std::vector<double> x = {10, 20, 30, 40, 50, 0, 60, 80};
  const std::vector<double> dy = {1, -1, 0.5, 2, -0.5, 1, 0.25, -2};
  const Result result = RunLayer(GetParam().lrn, Shape{1, 1, 8}, x, dy);
  for (size_t c = 0; c < x.size(); ++c) {
    EXPECT_NEAR(result.y[c], GetParam().y[c], 5.1e-7) << "channel " << c;
    if (!GetParam().dx.empty()) {
      EXPECT_NEAR(result.dx[c], GetParam().dx[c], 5.1e-8) << c;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Reference, LrnWorkedPixel,
    ::testing::Values(
        WorkedPixel{"Code2012",
                    {.alpha = 2e-5, .k = 2},
                    {5.884357, 11.631335, 17.135998, 22.864254, 27.946353, 0, 32.659863, 44.286665},
                    {0.5880410, -0.5953720, 0.2706821, 1.1268040, -0.3138871, 0.5385962, 0.2135999,
                     -1.0192505}},
        WorkedPixel{"Code2012WrittenAsAlphaOverSize",
                    {.alpha = 1e-4, .alpha_use = LrnAlpha::kDividedBySize, .k = 2},
                    {5.884357, 11.631335, 17.135998, 22.864254, 27.946353, 0, 32.659863, 44.286665},
                    {0.5880410, -0.5953720, 0.2706821, 1.1268040, -0.3138871, 0.5385962, 0.2135999,
                     -1.0192505}},
        WorkedPixel{"PaperText",
                    {.alpha = 1e-4, .k = 2},
                    {5.651838, 10.708635, 14.866753, 19.880839, 22.735027, 0, 24.787843, 35.095307},
                    {0.5638335, -0.5850949, 0.1911705, 0.9344099, -0.3511104, 0.3985054, 0.3324656,
                     -0.6195013}},
        WorkedPixel{"KOfOne",
                    {.alpha = 2e-5, .k = 1},
                    {9.795016, 19.144790, 27.741441, 37.038652, 44.388891, 0, 50.753821, 69.775676},
                    {0.9783127, -0.9997315, 0.4156629, 1.8011071, -0.5497386, 0.8300113, 0.4366169,
                     -1.4896510}},
        WorkedPixel{"TwoTowers",
                    {.alpha = 2e-5, .k = 2, .groups = 2},
                    {5.884357, 11.631335, 17.447003, 23.279624, 28.438781, 0, 32.659863, 44.286665},
                    {}}),
    [](const auto& instance) { return instance.param.name; });

TEST(OracleDropout, The2012FormMasksInTrainingAndHalvesAtTest) {
  const int64_t count = 10000;
  const std::vector<double> ones(static_cast<size_t>(count), 1.0);
  const Dropout dropout{0.5, DropoutForm::k2012};
  const Result trained = RunLayer(dropout, Shape{count}, ones, ones);
  for (double y : trained.y) EXPECT_TRUE(y == 0 || y == 1);
  EXPECT_EQ(trained.y, trained.dx);
  const Result tested = RunLayer(dropout, Shape{count}, ones, ones, false);
  for (double y : tested.y) EXPECT_EQ(y, 0.5);
}

// The mean of n values that are 0 or 1 with p = 1/2 has standard deviation 1 / (2 sqrt(n)) = 0.005.
// The mask is fixed by its key, so the test cannot fail by chance.
TEST(OracleDropout, BothFormsKeepTheMean) {
  const int64_t count = 10000;
  const std::vector<double> ones(static_cast<size_t>(count), 1.0);
  const auto mean = [&](const Dropout& dropout, bool training) {
    const Result result = RunLayer(dropout, Shape{count}, ones, ones, training);
    return std::accumulate(result.y.begin(), result.y.end(), 0.0) / static_cast<double>(count);
  };
  EXPECT_NEAR(mean({0.5, DropoutForm::k2012}, true), mean({0.5, DropoutForm::k2012}, false), 0.02);
  EXPECT_NEAR(mean({0.3, DropoutForm::kInverted}, true), 1, 0.02);
  EXPECT_EQ(mean({0.3, DropoutForm::kInverted}, false), 1);
}

TEST(DropoutMask, DependsOnEveryCoordinateOfTheSample) {
  const auto bits = [](uint64_t seed, int layer, int64_t epoch, int64_t position) {
    const DropoutMask mask(seed, layer, epoch, position);
    std::vector<bool> kept;
    for (int64_t element = 0; element < 256; ++element) kept.push_back(mask.Keeps(element, 0.5));
    return kept;
  };
  const auto base = bits(1, 2, 3, 4);
  EXPECT_EQ(base, bits(1, 2, 3, 4));
  EXPECT_NE(base, bits(2, 2, 3, 4));
  EXPECT_NE(base, bits(1, 3, 3, 4));
  EXPECT_NE(base, bits(1, 2, 4, 4));
  EXPECT_NE(base, bits(1, 2, 3, 5));
}

TEST(Initialize, APartOfATensorIsThatPartOfTheWhole) {
  const ParameterInfo info{.name = "fc.weight",
                           .shape = Shape{10, 7},
                           .spec = {{InitKind::kGaussian, 0.1}},
                           .fan_in = 7,
                           .fan_out = 10};
  std::vector<double> whole(70), part(21);
  std::vector<float> single(70);
  Initialize(info, 4, 0, 11, {whole.data(), DType::kFloat64, Shape{10, 7}});
  Initialize(info, 4, 5, 11, {part.data(), DType::kFloat64, Shape{3, 7}});
  Initialize(info, 4, 0, 11, {single.data(), DType::kFloat32, Shape{10, 7}});
  for (size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], whole[35 + i]);
  for (size_t i = 0; i < single.size(); ++i) EXPECT_EQ(single[i], static_cast<float>(whole[i]));
}

// The standard deviation of an estimate from n values is std / sqrt(2 n); the bound is five of
// them.
TEST(Initialize, EveryKindHasItsSpread) {
  constexpr int64_t kCount = 20000;
  const auto deviation = [](const Init& init) {
    const ParameterInfo info{
        .name = "fc.weight", .shape = Shape{kCount}, .spec = {init}, .fan_in = 50, .fan_out = 150};
    std::vector<double> values(kCount);
    Initialize(info, 0, 0, 1, {values.data(), DType::kFloat64, Shape{kCount}});
    double sum = 0;
    for (double value : values) sum += value * value;
    return std::sqrt(sum / kCount);
  };
  const double relative = 5 / std::sqrt(2.0 * kCount);
  EXPECT_NEAR(deviation({InitKind::kGaussian, 0.03}), 0.03, 0.03 * relative);
  EXPECT_NEAR(deviation({InitKind::kHe}), 0.2, 0.2 * relative);
  EXPECT_NEAR(deviation({InitKind::kXavier}), 0.1, 0.1 * relative);
  EXPECT_NEAR(deviation({InitKind::kFanInUniform}), 1 / std::sqrt(150.0), 0.0816 * relative);
  EXPECT_EQ(deviation({InitKind::kConstant, 1}), 1);
}

TEST(OracleLoss, SumsWeightedRowsAndRanksTheLabel) {
  const auto backend = MakeOracleBackend(1);
  const SegmentSpec segment = WholeNetwork(
      {.name = "loss", .input = Shape{6}, .layers = {{"loss", SoftmaxCrossEntropy{}}}});
  const ArenaLayout empty;
  const Buffer nothing = AllocateHost(0);
  const Tensor none = ViewOf(nothing, DType::kFloat64, Shape{0});
  const auto network = backend->Compile(segment, {.dtype = DType::kFloat64, .batch = 3},
                                        {&empty, none, none, none, &empty, none});
  // Row 0: label first. Row 1: label sixth, by a tie with a lower class. Row 2: not counted.
  const double x[18] = {3, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 9};
  std::copy(x, x + 18, network->input().As<double>());
  int32_t labels[3] = {0, 5, 0};
  float weights[3] = {1, 1, 0};
  HostStream stream;
  const StepContext context{
      .stream = &stream,
      .rows = {{labels, DType::kInt32, Shape{3}}, {weights, DType::kFloat32, Shape{3}}, {}}};
  network->Forward(context);
  const LossSums sums = ReadLossSums(stream, network->loss_sums());
  EXPECT_EQ(sums.weight, 2);
  EXPECT_EQ(sums.top1, 1);
  EXPECT_EQ(sums.top5, 1);
  EXPECT_NEAR(sums.loss, std::log(std::exp(3) + 5) - 3 + std::log(6), 1e-12);
}

TEST(OracleNetwork, NothingIsComputedBelowTheLastLayerThatLearns) {
  const auto backend = MakeOracleBackend(1);
  const NetworkSpec spec = MakeModel("lenet5", {.input = 28});
  const SegmentSpec segment = WholeNetwork(spec);
  ArenaLayout layout;
  const ArenaLayout buffers;
  for (const LayerSite& site : SitesOf(spec)) {
    for (const ParameterInfo& p : site.parameters) layout.Add(p.name, p.shape);
  }
  const Buffer values = AllocateHost(8 * layout.count()), gradients = AllocateHost(values.bytes());
  const Buffer nothing = AllocateHost(0);
  const Tensor w = ViewOf(values, DType::kFloat64, Shape{layout.count()});
  const Tensor g = ViewOf(gradients, DType::kFloat64, Shape{layout.count()});
  for (int64_t i = 0; i < g.count(); ++i) g.As<double>()[i] = 42;
  const auto network =
      backend->Compile(segment, {.dtype = DType::kFloat64, .batch = 1},
                       {&layout, w, w, g, &buffers, ViewOf(nothing, DType::kFloat64, Shape{0})});
  std::vector<bool> learns(spec.layers.size(), false);
  learns[8] = true;  // fc4
  ASSERT_EQ(spec.layers[8].name, "fc4");
  network->SetLearning(learns, false);

  struct Recorder final : BackwardObserver {
    void GradientReady(int64_t begin, int64_t) override { ready.push_back(begin); }
    void WeightsReleased(int64_t begin, int64_t) override { released.push_back(begin); }
    std::vector<int64_t> ready, released;
  } recorder;
  HostStream stream;
  int32_t label = 1;
  float weight = 1;
  const StepContext context{
      .stream = &stream,
      .training = true,
      .rows = {{&label, DType::kInt32, Shape{1}}, {&weight, DType::kFloat32, Shape{1}}, {}}};
  network->Forward(context);
  network->Backward(context, recorder);
  EXPECT_EQ(recorder.ready, (std::vector<int64_t>{layout.Find("fc4.weight").offset,
                                                  layout.Find("fc4.bias").offset}));
  EXPECT_EQ(layout.View(g, "fc3.weight").As<double>()[0], 42);
  EXPECT_EQ(layout.View(g, "fc5.weight").As<double>()[0], 42);
  EXPECT_NE(layout.View(g, "fc4.bias").As<double>()[0], 42);
}

}  // namespace
}  // namespace convoy
