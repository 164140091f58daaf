// Analytic gradients against central differences in the oracle, for every layer and option.
//
// The function that is differentiated is L = sum(r * y) with fixed random r (for the loss layer,
// its own loss). A central difference with step h errs by h^2 times a third derivative plus 1e-16 *
// |L| / h of rounding; with h = 1e-5 and values of order 1 both are below 1e-9, and 1e-7 relative
// leaves room for the larger sums.
#include <gtest/gtest.h>

#include <cmath>

#include "core/random.h"
#include "layers/backend.h"
#include "layers/network.h"

namespace convoy {
namespace {

struct Case {
  std::string name;
  Layer layer;
  Shape input;
};

class NoObserver final : public BackwardObserver {
 public:
  void GradientReady(int64_t, int64_t) override {}
  void WeightsReleased(int64_t, int64_t) override {}
};

constexpr int64_t kRows = 3;

// One layer, its arenas, and rows of which the last has weight 0.
class Bench {
 public:
  Bench(const Layer& layer, const Shape& input) : backend_(MakeOracleBackend(1)) {
    NetworkSpec network{.name = "one", .input = input, .layers = {{"layer", layer}}};
    SegmentSpec segment = WholeNetwork(network);
    segment.needs_input_gradient = true;
    for (const ParameterInfo& parameter : ParametersOf(network.layers[0], input)) {
      parameters_.Add(parameter.name, parameter.shape);
    }
    for (const BufferInfo& buffer : BuffersOf(network.layers[0], input)) {
      buffers_.Add(buffer.name, buffer.shape);
    }
    values_ = AllocateHost(8 * parameters_.count());
    gradients_ = AllocateHost(8 * parameters_.count());
    running_ = AllocateHost(8 * buffers_.count());
    const Shape shape{parameters_.count()};
    arenas_ = {.parameter_layout = &parameters_,
               .parameters = ViewOf(values_, DType::kFloat64, shape),
               .compute = ViewOf(values_, DType::kFloat64, shape),
               .gradients = ViewOf(gradients_, DType::kFloat64, shape),
               .buffer_layout = &buffers_,
               .buffers = ViewOf(running_, DType::kFloat64, Shape{buffers_.count()})};
    FillNormal(arenas_.parameters, 1);
    network_ = backend_->Compile(segment, {.dtype = DType::kFloat64, .batch = kRows}, arenas_);
    FillNormal(network_->input(), 2);
    direction_.resize(static_cast<size_t>(network_->output().count()));
    FillNormal({direction_.data(), DType::kFloat64, Shape{network_->output().count()}}, 3);
    context_ = {.stream = &stream_,
                .training = true,
                .seed = 7,
                .epoch = 1,
                .rows = {{labels_, DType::kInt32, Shape{kRows}},
                         {weights_, DType::kFloat32, Shape{kRows}},
                         {positions_, DType::kInt64, Shape{kRows}}},
                .loss_scale = 0.5};
    is_loss_ = std::holds_alternative<SoftmaxCrossEntropy>(layer);
  }

  double Objective() {
    network_->Forward(context_);
    if (is_loss_) return context_.loss_scale * ReadLossSums(stream_, network_->loss_sums()).loss;
    const double* y = network_->output().As<double>();
    double sum = 0;
    for (size_t i = 0; i < direction_.size(); ++i) sum += direction_[i] * y[i];
    return sum;
  }

  void Differentiate() {
    network_->Forward(context_);
    if (!is_loss_) {
      double* dy = network_->output_gradient().As<double>();
      std::copy(direction_.begin(), direction_.end(), dy);
    }
    NoObserver observer;
    network_->Backward(context_, observer);
  }

  // Compares every element of `gradient` with the difference quotient over the element of `values`.
  void Compare(const Tensor& values, const Tensor& gradient, const std::string& what) {
    double* x = values.As<double>();
    const double* analytic = gradient.As<double>();
    for (int64_t i = 0; i < values.count(); ++i) {
      constexpr double kStep = 1e-5;
      const double kept = x[i];
      x[i] = kept + kStep;
      const double above = Objective();
      x[i] = kept - kStep;
      const double below = Objective();
      x[i] = kept;
      const double numeric = (above - below) / (2 * kStep);
      ASSERT_NEAR(analytic[i], numeric, 1e-7 * std::max(1.0, std::abs(numeric)))
          << what << " element " << i;
    }
  }

  Network& network() { return *network_; }
  const ArenaLayout& layout() const { return parameters_; }
  const NetworkArenas& arenas() const { return arenas_; }

 private:
  static void FillNormal(const Tensor& tensor, uint64_t seed) {
    double* values = tensor.As<double>();
    for (int64_t i = 0; i < tensor.count(); ++i) {
      values[i] = ToNormals(RandomBlock({.seed = seed}, static_cast<uint32_t>(i)))[0];
    }
  }

  std::unique_ptr<Backend> backend_;
  HostStream stream_;
  ArenaLayout parameters_, buffers_;
  Buffer values_, gradients_, running_;
  NetworkArenas arenas_;
  std::unique_ptr<Network> network_;
  std::vector<double> direction_;
  StepContext context_;
  bool is_loss_ = false;
  int32_t labels_[kRows] = {1, 0, 2};
  float weights_[kRows] = {1, 1, 0};
  int64_t positions_[kRows] = {10, 11, -1};
};

class OracleGradient : public ::testing::TestWithParam<Case> {};

TEST_P(OracleGradient, MatchesFiniteDifferences) {
  Bench bench(GetParam().layer, GetParam().input);
  bench.Differentiate();
  // The difference quotients run Forward again; the analytic gradients are kept.
  const Tensor dx = bench.network().input_gradient();
  std::vector<double> dx_kept(dx.As<double>(), dx.As<double>() + dx.count());
  bench.Compare(bench.network().input(), {dx_kept.data(), DType::kFloat64, dx.shape}, "input");
  for (const ArenaEntry& entry : bench.layout().entries()) {
    bench.Compare(bench.layout().View(bench.arenas().parameters, entry.name),
                  bench.layout().View(bench.arenas().gradients, entry.name), entry.name);
  }
}

const Shape kImage{5, 6, 4};

INSTANTIATE_TEST_SUITE_P(
    Layers, OracleGradient,
    ::testing::Values(
        Case{"Conv3x3", Convolution{.out_channels = 3, .kernel = 3}, kImage},
        Case{"ConvStride2Padded",
             Convolution{.out_channels = 3, .kernel = 3, .stride = 2, .padding = Padding::Same(1)},
             kImage},
        Case{"ConvPaddedAfterOnly",
             Convolution{.out_channels = 2, .kernel = 4, .stride = 3, .padding = {0, 0, 2, 1}},
             kImage},
        Case{"ConvTwoGroups",
             Convolution{.out_channels = 4, .kernel = 3, .padding = Padding::Same(1), .groups = 2},
             kImage},
        Case{"ConvWithoutBias", Convolution{.out_channels = 2, .kernel = 2, .has_bias = false},
             kImage},
        Case{"ConvOneByOne", Convolution{.out_channels = 5, .kernel = 1, .stride = 2}, kImage},
        Case{"FullyConnectedFlat", FullyConnected{.out_features = 4}, Shape{7}},
        Case{"FullyConnectedImage", FullyConnected{.out_features = 3}, kImage},
        Case{"FullyConnectedWithoutBias", FullyConnected{.out_features = 3, .has_bias = false},
             Shape{7}},
        Case{"Relu", Activation{ActivationKind::kRelu}, kImage},
        Case{"Tanh", Activation{ActivationKind::kTanh}, kImage},
        Case{"Sigmoid", Activation{ActivationKind::kSigmoid}, kImage},
        Case{"LeakyRelu", Activation{ActivationKind::kLeakyRelu, 0.1}, kImage},
        Case{"Elu", Activation{ActivationKind::kElu, 0.7}, kImage},
        Case{"LrnPaper", Lrn{.size = 5, .alpha = 0.1, .beta = 0.75, .k = 2}, Shape{2, 2, 8}},
        Case{"LrnDividedBySize",
             Lrn{.size = 3, .alpha = 0.3, .alpha_use = LrnAlpha::kDividedBySize, .k = 1},
             Shape{2, 2, 8}},
        Case{"LrnTwoGroups", Lrn{.size = 5, .alpha = 0.1, .groups = 2}, Shape{2, 2, 8}},
        Case{"LrnWiderThanTheChannels", Lrn{.size = 9, .alpha = 0.1, .beta = 0.5}, Shape{2, 1, 3}},
        Case{"BatchNormImage", BatchNorm{}, Shape{3, 2, 4}},
        Case{"BatchNormFlat", BatchNorm{.epsilon = 1e-3}, Shape{6}},
        Case{"MaxPoolOverlapping", Pool{PoolKind::kMax, 3, 2}, kImage},
        Case{"MaxPoolCeil", Pool{PoolKind::kMax, 3, 2, {}, Rounding::kCeil}, kImage},
        Case{"MaxPoolPadded", Pool{PoolKind::kMax, 3, 2, Padding::Same(1)}, kImage},
        Case{"MaxPoolGaps", Pool{PoolKind::kMax, 2, 3}, kImage},
        Case{"AveragePool", Pool{PoolKind::kAverage, 2, 2}, kImage},
        Case{"AveragePoolCeil", Pool{PoolKind::kAverage, 3, 2, {}, Rounding::kCeil}, kImage},
        Case{"AveragePoolPaddedIncluding", Pool{PoolKind::kAverage, 3, 2, Padding::Same(1)},
             kImage},
        Case{"AveragePoolPaddedExcluding",
             Pool{PoolKind::kAverage, 3, 2, Padding::Same(1), Rounding::kCeil,
                  AverageDivisor::kExcludePadding},
             kImage},
        Case{"AdaptivePoolDown", AdaptiveAveragePool{2}, kImage},
        Case{"AdaptivePoolUp", AdaptiveAveragePool{7}, kImage},
        Case{"Dropout2012", Dropout{0.5, DropoutForm::k2012}, kImage},
        Case{"DropoutInverted", Dropout{0.3, DropoutForm::kInverted}, Shape{20}},
        Case{"SoftmaxLoss", SoftmaxCrossEntropy{}, Shape{6}},
        Case{"SoftmaxLossSmoothed", SoftmaxCrossEntropy{0.1}, Shape{6}}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace convoy
