// Products at the batch of a real run: the kernels that a library picks for a thousand rows are not
// those it picks for three. The batch repeats a few rows over and over, so the oracle need compute
// only those: every repetition has their results, and gradients of weights are so many times
// theirs.
#include <algorithm>
#include <string>

#include "layers/analysis.h"
#include "layers/models.h"
#include "tests/backend/tested.h"

namespace convoy {
namespace {

// Returns a thousand rows if a device computes them. Elsewhere the test itself is tested, in small.
int64_t DistinctRows() { return IsOnADevice() ? 8 : 2; }
int64_t Repetitions() { return IsOnADevice() ? 128 : 3; }

struct Product {
  std::string name;
  Shape input;
  Layer layer;
  int64_t fan_in = 0;
};

// Returns those of alexnet2012; on small images unless a device computes them.
std::vector<Product> Products() {
  std::vector<Product> products;
  for (const LayerSite& site : SitesOf(MakeModel("alexnet2012", {}))) {
    const LayerSpec& layer = site.layer;
    Shape own = site.input;
    if (!IsOnADevice()) {
      for (size_t side = 0; side < 2 && own.rank() == 3; ++side) {
        own = own.With(static_cast<int>(side), std::min<int64_t>(own[side], own[2] == 3 ? 15 : 5));
      }
    }
    const bool is_product = std::holds_alternative<Convolution>(layer.layer) ||
                            std::holds_alternative<FullyConnected>(layer.layer);
    if (is_product) {
      products.push_back({layer.name, own, layer.layer, ParametersOf(layer, own).front().fan_in});
    }
  }
  return products;
}

// Fills `tensor` with its first rows, over and over.
void Repeat(SegmentRun& run, const Tensor& tensor, const std::vector<double>& rows) {
  run.Set(tensor.Rows(0, DistinctRows()), rows);
  const Tensor first = tensor.Rows(0, DistinctRows());
  for (int64_t repetition = 1; repetition < Repetitions(); ++repetition) {
    const Tensor next = tensor.Rows(repetition * DistinctRows(), DistinctRows());
    run.stream().Copy(next.data, first.data, first.bytes());
  }
}

// The first repetition, one in the middle, and the last.
void ExpectRepeated(const std::string& what, const SegmentRun& run, const Tensor& tensor,
                    const std::vector<double>& want, const Tolerance& tolerance) {
  for (const int64_t repetition : {int64_t{0}, Repetitions() / 2, Repetitions() - 1}) {
    const Tensor rows = tensor.Rows(repetition * DistinctRows(), DistinctRows());
    ExpectClose(fmt::format("{}, repetition {}", what, repetition), run.Values(rows), want,
                tolerance);
  }
}

class LargeBatch : public testing::TestWithParam<DType> {};

TEST_P(LargeBatch, EveryProductOfAlexNetAgreesWithTheOracle) {
  const DType dtype = GetParam();
  const std::vector<DType> types = TestedTypes();
  if (std::find(types.begin(), types.end(), dtype) == types.end()) {
    GTEST_SKIP() << "no bf16 without AVX-512";
  }
  for (const Product& product : Products()) {
    SCOPED_TRACE(product.name);
    SegmentSpec segment = SegmentOf(product.input, {product.layer});
    segment.needs_input_gradient = product.name != "conv1";  // nobody asks for that one
    SegmentRun oracle(MakeOracleBackend(4), segment,
                      {.dtype = DType::kFloat64, .batch = DistinctRows()});
    SegmentRun tested(MakeTestedBackend(2), segment,
                      {.dtype = dtype, .batch = DistinctRows() * Repetitions()});

    const std::vector<double> input = RandomValues(oracle.network().input().count(), 3);
    oracle.SetInput(input);
    Repeat(tested, tested.network().input(), input);
    oracle.Forward(true);
    tested.Forward(true);
    const Tolerance forward = ToleranceOf(dtype, product.fan_in);
    ExpectRepeated("output", tested, tested.network().output(), oracle.Output(), forward);

    const std::vector<double> gradient =
        RandomValues(oracle.network().output_gradient().count(), 4);
    oracle.SetOutputGradient(gradient);
    Repeat(tested, tested.network().output_gradient(), gradient);
    oracle.Backward();
    tested.Backward();
    const Tensor output = oracle.network().output();
    const int64_t places = output.count() / output.shape.back();
    if (segment.needs_input_gradient) {
      // An element adds up the outputs of the largest kernel, 5 x 5.
      ExpectRepeated("input gradient", tested, tested.network().input_gradient(),
                     oracle.InputGradient(), ToleranceOf(dtype, output.shape.back() * 25));
    }
    for (const ArenaEntry& entry : tested.parameter_layout().entries()) {
      std::vector<double> want = oracle.Gradient(entry.name);
      for (double& value : want) value *= static_cast<double>(Repetitions());
      // Engines that round the gradient of bf16 weights once, as PyTorch does, are allowed.
      ExpectClose(entry.name, tested.Gradient(entry.name), want,
                  ToleranceOf(dtype, places * Repetitions()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LargeBatch, testing::Values(DType::kFloat32, DType::kBFloat16),
                         [](const auto& parameters) { return NameOf(parameters.param); });

}  // namespace
}  // namespace convoy
