// What stands around the vendor's convolutions: slices of channels, packed copies, and own kernels
// behind them. cuDNN is played by loops that follow the sizes, strides and addresses that a graph
// is given.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/cuda/runtime.h"
#include "layers/analysis.h"
#include "layers/cuda/convolution_variants.h"
#include "layers/cuda/cudnn_convolution.h"
#include "layers/cuda/launch.h"
#include "layers/cuda/product_kernels.h"

namespace convoy::cuda {
namespace {

double At(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kFloat32) return static_cast<double>(static_cast<const float*>(data)[i]);
  return static_cast<double>(static_cast<float>(static_cast<const BFloat16*>(data)[i]));
}

void Set(void* data, DType dtype, int64_t i, double value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  } else {
    static_cast<BFloat16*>(data)[i] = BFloat16(static_cast<float>(value));
  }
}

// The place of element (n, h, w, c) of images.
int64_t PlaceOf(const ImageLayout& image, int64_t n, int64_t h, int64_t w, int64_t c) {
  return ((n * image.height + h) * image.width + w) * image.pixel_stride + c;
}

// visit(place in y, channel of y, place in x, place in the weights) for every multiply-add.
template <typename Visit>
void ForEachMultiplyAdd(const ConvolutionProblem& problem, Visit&& visit) {
  const ImageLayout &x = problem.x, &y = problem.y;
  const int64_t in = problem.channels_per_group, outs = y.channels / (x.channels / in);
  for (int64_t n = 0; n < y.batch; ++n) {
    for (int64_t oh = 0; oh < y.height; ++oh) {
      for (int64_t ow = 0; ow < y.width; ++ow) {
        for (int64_t o = 0; o < y.channels; ++o) {
          for (int64_t kh = 0; kh < problem.kernel; ++kh) {
            for (int64_t kw = 0; kw < problem.kernel; ++kw) {
              const int64_t h = oh * problem.stride - problem.padding.top + kh;
              const int64_t w = ow * problem.stride - problem.padding.left + kw;
              if (h < 0 || h >= x.height || w < 0 || w >= x.width) continue;
              for (int64_t i = 0; i < in; ++i) {
                visit(PlaceOf(y, n, oh, ow, o), o, PlaceOf(x, n, h, w, o / outs * in + i),
                      ((o * problem.kernel + kh) * problem.kernel + kw) * in + i);
              }
            }
          }
        }
      }
    }
  }
}

void RunLoops(const ConvolutionProblem& problem, const ConvolutionMemory& memory) {
  std::map<int64_t, double> sums;
  std::map<int64_t, int64_t> channels;  // of the places of y
  ForEachMultiplyAdd(problem, [&](int64_t y, int64_t channel, int64_t x, int64_t weight) {
    const auto value = [&](ConvolutionOperand operand, int64_t i) {
      return At(memory[operand], problem.dtype, i);
    };
    switch (problem.pass) {
      case ConvolutionPass::kForward:
        sums[y] += value(kX, x) * value(kWeight, weight);
        channels[y] = channel;
        break;
      case ConvolutionPass::kBackwardData:
        sums[x] += value(kDy, y) * value(kWeight, weight);
        break;
      case ConvolutionPass::kBackwardWeights:
        sums[weight] += value(kDy, y) * value(kX, x);
        break;
    }
  });
  for (auto [i, sum] : sums) {
    if (problem.adds_bias) sum += At(memory[kBias], problem.dtype, channels[i]);
    if (problem.relu) sum = std::max(sum, 0.0);
    if (problem.masks && At(memory[kX], problem.dtype, i) <= 0) sum = 0;
    Set(memory[kResult], problem.result_dtype, i, sum);
  }
}

}  // namespace

// --- What cudnn_graph.h promises
// ------------------------------------------------------------------

CudnnContext::CudnnContext(int) {}
CudnnContext::~CudnnContext() = default;
void CudnnContext::Use(Stream& stream) { handle_ = &stream; }

struct ConvolutionGraph::Parts {
  ConvolutionProblem problem;
};
ConvolutionGraph::ConvolutionGraph(const ConvolutionProblem& problem)
    : parts_(std::make_unique<Parts>(Parts{problem})) {}
ConvolutionGraph::~ConvolutionGraph() = default;
std::vector<std::string> ConvolutionGraph::ProposePlans(CudnnContext&, const PlanLimits&) {
  return {"loops"};
}
int64_t ConvolutionGraph::BuildPlan(const std::string&) { return 0; }
void ConvolutionGraph::Execute(CudnnContext& context, const std::string&,
                               const ConvolutionMemory& memory, void*) const {
  for (size_t i = 0; i < memory.size(); ++i) {
    const auto alignment = static_cast<uintptr_t>(parts_->problem.alignment[i]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory[i]) % alignment, 0u);
  }
  Enqueue(*static_cast<Stream*>(context.handle()),
          [problem = parts_->problem, memory] { RunLoops(problem, memory); });
}

namespace {

class VendorProductsTest : public testing::Test {
 protected:
  Tensor Make(DType dtype, const Shape& shape) {
    memory_.push_back(AllocateDevice(0, shape.count() * SizeOf(dtype)));
    const Tensor tensor = ViewOf(memory_.back(), dtype, shape);
    // Small whole numbers, so that every sum is exact in both types.
    for (int64_t i = 0; i < tensor.count(); ++i) {
      Set(tensor.data, dtype, i, static_cast<double>((7 * i + 3 * (i / 5)) % 5 - 2));
    }
    return tensor;
  }

  Library::ConvolutionOperands MakeOperands(const Convolution& conv, const Shape& x, DType dtype) {
    const LayerSpec layer{"conv", conv};
    const Shape y = OutputShape(layer, x.DropFirst()).Prepend(x[0]);
    const Shape weight{conv.out_channels, conv.kernel, conv.kernel, x[3] / conv.groups};
    const Shape bias{conv.out_channels};
    return {.name = "conv",
            .x = Make(dtype, x),
            .weight = Make(dtype, weight),
            .y = Make(dtype, y),
            .bias = Make(DType::kFloat32, bias),
            .compute_bias = Make(dtype, bias),
            .relu = true,
            .dy = Make(dtype, y),
            .dx = Make(dtype, x),
            .mask_dx = true,
            .weight_gradient = Make(DType::kFloat32, weight)};
  }

  // What one plain call gives.
  static std::vector<double> Expected(ConvolutionPass pass, const Convolution& conv,
                                      const Library::ConvolutionOperands& operands) {
    const auto layout = [](const Shape& shape) {
      return ImageLayout{shape[0], shape[1], shape[2], shape[3], shape[3]};
    };
    const Tensor& result = ResultOf(pass, operands);
    std::vector<float> values(static_cast<size_t>(result.count()));
    RunLoops({.pass = pass,
              .dtype = operands.x.dtype,
              .result_dtype = DType::kFloat32,
              .x = layout(operands.x.shape),
              .y = layout(operands.y.shape),
              .kernel = conv.kernel,
              .stride = conv.stride,
              .channels_per_group = operands.x.shape[3] / conv.groups,
              .padding = conv.padding,
              .adds_bias = pass == ConvolutionPass::kForward,
              .relu = pass == ConvolutionPass::kForward,
              .masks = pass == ConvolutionPass::kBackwardData},
             {operands.x.data, operands.weight.data, operands.dy.data, operands.compute_bias.data,
              values.data()});
    return {values.begin(), values.end()};
  }

  static const Tensor& ResultOf(ConvolutionPass pass,
                                const Library::ConvolutionOperands& operands) {
    if (pass == ConvolutionPass::kForward) return operands.y;
    return pass == ConvolutionPass::kBackwardData ? operands.dx : operands.weight_gradient;
  }

  // Runs every variant; gives their names.
  std::vector<std::string> Check(ConvolutionPass pass, const Convolution& conv, const Shape& x,
                                 DType dtype) {
    const Library::ConvolutionOperands operands = MakeOperands(conv, x, dtype);
    const std::vector<double> expected = Expected(pass, conv, operands);
    const Tensor& result = ResultOf(pass, operands);
    CudnnContext context(0);
    SharedMemory workspace(0), packed(0);
    const auto stream = MakeStream(0);
    std::vector<std::string> names;
    for (const CandidateGroup& group :
         ConvolutionCandidates(pass, conv, operands,
                               {.context = &context, .workspace = &workspace, .packed = &packed})) {
      const KernelCandidate& candidate = group.candidates.at(0);
      names.push_back(candidate.name);
      for (int64_t i = 0; i < result.count(); ++i) Set(result.data, result.dtype, i, 99);
      const std::unique_ptr<BoundProduct> product = candidate.make();
      product->Run(*stream);
      stream->Synchronize();
      for (int64_t i = 0; i < result.count(); ++i) {
        const double actual = At(result.data, result.dtype, i);
        const double want = expected[static_cast<size_t>(i)];
        EXPECT_NEAR(actual, want, 0.01 * std::abs(want)) << candidate.name << " at " << i;
        if (HasFailure()) return names;
      }
    }
    return names;
  }

  std::vector<Buffer> memory_;
};

using testing::Test;
using Names = std::vector<std::string>;

const Convolution kGrouped{
    .out_channels = 6, .kernel = 3, .padding = Padding::Same(1), .groups = 2};
// Of three channels, and with padding that differs between the sides.
const Convolution kFirst{.out_channels = 8, .kernel = 5, .stride = 4, .padding = {0, 0, 3, 3}};

TEST_F(VendorProductsTest, ForwardOfGroups) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    EXPECT_EQ(Check(ConvolutionPass::kForward, kGrouped, {2, 5, 4, 8}, dtype),
              (Names{"grouped fused:loops", "grouped:loops", "split fused:loops", "split:loops"}));
  }
}

TEST_F(VendorProductsTest, GradientOfTheDataOfGroups) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    EXPECT_EQ(Check(ConvolutionPass::kBackwardData, kGrouped, {2, 5, 4, 8}, dtype),
              (Names{"grouped fused:loops", "grouped:loops", "split fused:loops", "split:loops"}));
  }
}

TEST_F(VendorProductsTest, GradientOfTheWeightsOfGroups) {
  EXPECT_EQ(Check(ConvolutionPass::kBackwardWeights, kGrouped, {2, 5, 4, 8}, DType::kFloat32),
            (Names{"grouped:loops", "split:loops"}));
  EXPECT_EQ(Check(ConvolutionPass::kBackwardWeights, kGrouped, {2, 5, 4, 8}, DType::kBFloat16),
            (Names{"grouped:loops", "grouped bf16:loops", "split:loops", "split bf16:loops"}));
}

TEST_F(VendorProductsTest, ForwardOfTheFirstLayer) {
  EXPECT_EQ(Check(ConvolutionPass::kForward, kFirst, {2, 14, 10, 3}, DType::kFloat32),
            (Names{"plain fused:loops", "plain:loops", "padded fused:loops", "padded:loops"}));
  EXPECT_EQ(Check(ConvolutionPass::kForward, kFirst, {2, 14, 10, 3}, DType::kBFloat16),
            (Names{"plain fused:loops", "plain:loops", "padded fused:loops", "padded:loops",
                   "packed fused:loops", "packed:loops"}));
}

TEST_F(VendorProductsTest, GradientOfTheWeightsOfTheFirstLayer) {
  EXPECT_EQ(Check(ConvolutionPass::kBackwardWeights, kFirst, {2, 14, 10, 3}, DType::kFloat32),
            (Names{"plain:loops", "padded:loops"}));
  EXPECT_EQ(Check(ConvolutionPass::kBackwardWeights, kFirst, {2, 14, 10, 3}, DType::kBFloat16),
            (Names{"plain:loops", "plain bf16:loops", "padded:loops", "padded bf16:loops",
                   "packed:loops", "packed bf16:loops"}));
}

TEST_F(VendorProductsTest, PaddingThatIsNotReadIsMadeEven) {
  // Behind the last window: 9 + 1 + 0 and 9 + 1 + 1 hold as many windows of 3, every second place.
  const Convolution conv{.out_channels = 4, .kernel = 3, .stride = 2, .padding = {1, 1, 0, 0}};
  const auto variants = ConvolutionVariants(ConvolutionPass::kForward, conv,
                                            MakeOperands(conv, {1, 8, 8, 4}, DType::kFloat32));
  EXPECT_EQ(variants.at(0).problem.padding, Padding::Same(1));
  EXPECT_EQ(Check(ConvolutionPass::kForward, conv, {1, 8, 8, 4}, DType::kFloat32),
            (Names{"plain fused:loops", "plain:loops"}));
}

TEST_F(VendorProductsTest, BiasAndReluOfAnyWidth) {
  const auto stream = MakeStream(0);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int64_t channels : {1, 3, 8, 24}) {
      const Tensor y = Make(dtype, {5, channels}), bias = Make(DType::kFloat32, {channels});
      std::vector<double> expected;
      for (int64_t i = 0; i < y.count(); ++i) {
        expected.push_back(
            std::max(0.0, At(y.data, dtype, i) + At(bias.data, DType::kFloat32, i % channels)));
      }
      AddBiasRelu(*stream, bias, true, y);
      stream->Synchronize();
      for (int64_t i = 0; i < y.count(); ++i) {
        EXPECT_EQ(At(y.data, dtype, i), expected[static_cast<size_t>(i)]);
      }
    }
  }
}

}  // namespace
}  // namespace convoy::cuda
