// What stands around the vendor's convolutions: slices of channels, packed copies, and own kernels
// after them. cuDNN is played by loops.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "core/cuda/runtime.h"
#include "layers/analysis.h"
#include "layers/cuda/kernels/packed_images.h"
#include "layers/cuda/kernels/product_kernels.h"
#include "layers/cuda/products/convolution_variants.h"
#include "layers/cuda/products/cudnn_convolution.h"
#include "tests/emulation/loops_for_cudnn.h"

namespace convoy::cuda {
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

  ProductOperands MakeOperands(const Convolution& conv, const Shape& x, DType dtype) {
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
            .weight_gradient = Make(DType::kFloat32, weight),
            .accumulates = true};
  }

  // What one plain call gives.
  static std::vector<double> Expected(ProductPass pass, const Convolution& conv,
                                      const ProductOperands& operands) {
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
              .adds_bias = pass == ProductPass::kForward,
              .relu = pass == ProductPass::kForward,
              .masks = pass == ProductPass::kBackwardData},
             {operands.x.data, operands.weight.data, operands.dy.data, operands.compute_bias.data,
              values.data()});
    return {values.begin(), values.end()};
  }

  static const Tensor& ResultOf(ProductPass pass, const ProductOperands& operands) {
    if (pass == ProductPass::kForward) return operands.y;
    return pass == ProductPass::kBackwardData ? operands.dx : operands.weight_gradient;
  }

  // What `run` leaves where `before` was.
  static void ExpectResult(const std::string& name, const Tensor& result, double before,
                           const std::vector<double>& expected, const std::function<void()>& run) {
    for (int64_t i = 0; i < result.count(); ++i) Set(result.data, result.dtype, i, before);
    run();
    for (int64_t i = 0; i < result.count() && !HasFailure(); ++i) {
      const double actual = At(result.data, result.dtype, i);
      const double want = expected[static_cast<size_t>(i)];
      EXPECT_NEAR(actual, want, 0.01 * std::abs(want)) << name << " at " << i;
    }
  }

  // Runs every variant, gradients of weights also so that they are added; gives the variants'
  // names.
  std::vector<std::string> Check(ProductPass pass, const Convolution& conv, const Shape& x,
                                 DType dtype) {
    const ProductOperands operands = MakeOperands(conv, x, dtype);
    const std::vector<double> expected = Expected(pass, conv, operands);
    const Tensor& result = ResultOf(pass, operands);
    CudnnContext context(0);
    WorkspacePool workspace(0), packed(0);
    const auto stream = MakeStream(0);
    std::vector<std::string> names;
    for (const CandidateGroup& group :
         ConvolutionCandidates(pass, conv, operands,
                               {.context = &context, .workspace = &workspace, .packed = &packed})) {
      const KernelCandidate& candidate = group.candidates.at(0);
      names.push_back(candidate.name);
      const std::unique_ptr<BoundProduct> product = candidate.make();
      ExpectResult(candidate.name, result, 99, expected, [&] {
        product->Run(*stream);
        stream->Synchronize();
      });
      if (pass != ProductPass::kBackwardWeights) {
        EXPECT_THROW(product->RunAdding(*stream), Error) << candidate.name;
        continue;
      }
      std::vector<double> sums = expected;
      for (double& sum : sums) sum -= 0.5;
      ExpectResult(candidate.name + ", added", result, -0.5, sums, [&] {
        product->RunAdding(*stream);
        stream->Synchronize();
      });
      if (HasFailure()) return names;
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
    EXPECT_EQ(Check(ProductPass::kForward, kGrouped, {2, 5, 4, 8}, dtype),
              (Names{"grouped fused:loops", "grouped:loops", "split fused:loops", "split:loops"}));
  }
}

TEST_F(VendorProductsTest, GradientOfTheDataOfGroups) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    EXPECT_EQ(Check(ProductPass::kBackwardData, kGrouped, {2, 5, 4, 8}, dtype),
              (Names{"grouped fused:loops", "grouped:loops", "split fused:loops", "split:loops"}));
  }
}

// In which the gradient of bf16 weights is written.
Names WithForms(const Names& variants) {
  Names names;
  for (const std::string& variant : variants) {
    for (const char* form : {"", " rounded"}) names.push_back(variant + form + ":loops");
  }
  return names;
}

TEST_F(VendorProductsTest, GradientOfTheWeightsOfGroups) {
  EXPECT_EQ(Check(ProductPass::kBackwardWeights, kGrouped, {2, 5, 4, 8}, DType::kFloat32),
            (Names{"grouped:loops", "split:loops"}));
  EXPECT_EQ(Check(ProductPass::kBackwardWeights, kGrouped, {2, 5, 4, 8}, DType::kBFloat16),
            WithForms({"grouped", "split"}));
}

TEST_F(VendorProductsTest, ForwardOfTheFirstLayer) {
  EXPECT_EQ(Check(ProductPass::kForward, kFirst, {2, 14, 10, 3}, DType::kFloat32),
            (Names{"plain fused:loops", "plain:loops", "padded fused:loops", "padded:loops",
                   "folded fused:loops", "folded:loops"}));
  EXPECT_EQ(Check(ProductPass::kForward, kFirst, {2, 14, 10, 3}, DType::kBFloat16),
            (Names{"plain fused:loops", "plain:loops", "padded fused:loops", "padded:loops",
                   "packed fused:loops", "packed:loops", "folded fused:loops", "folded:loops"}));
}

TEST_F(VendorProductsTest, GradientOfTheWeightsOfTheFirstLayer) {
  EXPECT_EQ(Check(ProductPass::kBackwardWeights, kFirst, {2, 14, 10, 3}, DType::kFloat32),
            (Names{"plain:loops", "padded:loops", "folded:loops"}));
  EXPECT_EQ(Check(ProductPass::kBackwardWeights, kFirst, {2, 14, 10, 3}, DType::kBFloat16),
            WithForms({"plain", "padded", "packed", "folded"}));
}

TEST_F(VendorProductsTest, FoldedLayersOfManySizes) {
  struct Case {
    int kernel, stride;
    Padding padding;
    Shape x;
    int64_t height, width, folded_kernel, channels;  // in bf16
  };
  const Case cases[] = {
      // conv1: no padding, padding after, padding all around; odd rows and even ones.
      {11, 4, {}, {2, 23, 19, 3}, 6, 5, 3, 48},
      {11, 4, {0, 0, 3, 3}, {2, 20, 16, 3}, 6, 5, 3, 48},
      {11, 4, {2, 4, 1, 3}, {1, 21, 20, 3}, 6, 7, 3, 48},
      // Places at the end that no window reaches.
      {5, 4, {1, 0, 0, 0}, {2, 15, 18, 3}, 4, 5, 2, 48},
      // Channels that are filled up, and squares of other sizes.
      {3, 2, Padding::Same(1), {2, 9, 7, 3}, 6, 5, 2, 16},
      {7, 2, Padding::Same(3), {1, 8, 12, 4}, 7, 9, 4, 16},
      {8, 3, {0, 1, 2, 0}, {2, 13, 11, 1}, 5, 4, 3, 16},
  };
  for (const Case& test : cases) {
    const Convolution conv{
        .out_channels = 4, .kernel = test.kernel, .stride = test.stride, .padding = test.padding};
    for (const ProductPass pass : {ProductPass::kForward, ProductPass::kBackwardWeights}) {
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        const Names names = Check(pass, conv, test.x, dtype);
        EXPECT_THAT(names, testing::Contains("folded:loops")) << test.x.ToString();
      }
      const auto variants =
          ConvolutionVariants(pass, conv, MakeOperands(conv, test.x, DType::kBFloat16));
      const ConvolutionProblem& folded =
          std::find_if(variants.begin(), variants.end(), [](const ConvolutionVariant& variant) {
            return variant.name == "folded";
          })->problem;
      EXPECT_EQ(folded.x.height, test.height);
      EXPECT_EQ(folded.x.width, test.width);
      EXPECT_EQ(folded.kernel, test.folded_kernel);
      EXPECT_EQ(folded.x.channels, test.channels);
      EXPECT_EQ(folded.stride, 1);
      EXPECT_EQ(folded.padding, Padding{});
    }
  }
}

TEST_F(VendorProductsTest, TheGradientOfTheWeightsReadsWhatForwardPacked) {
  const Shape x{2, 14, 10, 3};
  // Whether the gradient by the second candidate packs x itself after forward by the first.
  const auto packs_again = [&](const std::string& forward_name, const std::string& weights_name) {
    auto operands = MakeOperands(kFirst, x, DType::kBFloat16);
    operands.packed_x = std::make_shared<PackedImages>(0);
    const auto expected = Expected(ProductPass::kBackwardWeights, kFirst, operands);
    CudnnContext context(0);
    WorkspacePool workspace(0), packed(0);
    const auto make = [&](ProductPass pass, const std::string& name) {
      for (const CandidateGroup& group : ConvolutionCandidates(
               pass, kFirst, operands,
               {.context = &context, .workspace = &workspace, .packed = &packed})) {
        if (group.candidates.at(0).name == name) return group.candidates[0].make();
      }
      return std::unique_ptr<BoundProduct>();
    };
    const auto forward = make(ProductPass::kForward, forward_name);
    const auto weights = make(ProductPass::kBackwardWeights, weights_name);
    const auto stream = MakeStream(0);
    forward->Run(*stream);
    const auto is_right = [&] {
      weights->Run(*stream);
      stream->Synchronize();
      for (int64_t i = 0; i < operands.weight_gradient.count(); ++i) {
        const double actual = At(operands.weight_gradient.data, DType::kFloat32, i);
        if (actual != expected[static_cast<size_t>(i)]) return false;
      }
      return true;
    };
    EXPECT_TRUE(is_right()) << forward_name << ", " << weights_name;
    // Who packs itself sees an x that changed since forward.
    for (int64_t i = 0; i < operands.x.count(); ++i) Set(operands.x.data, DType::kBFloat16, i, 0);
    return !is_right();
  };
  for (const std::string kind : {"padded", "packed", "folded"}) {
    EXPECT_FALSE(packs_again(kind + " fused:loops", kind + ":loops")) << kind;
    EXPECT_FALSE(packs_again(kind + ":loops", kind + ":loops")) << kind;
  }
  EXPECT_TRUE(packs_again("packed:loops", "folded:loops"));
  EXPECT_TRUE(packs_again("padded:loops", "packed:loops"));
  EXPECT_TRUE(packs_again("plain:loops", "folded:loops"));
}

TEST_F(VendorProductsTest, PackedCopiesLiveAsLongAsTheyAreHeld) {
  PackedImages images(0);
  const Packing packing{.padding = {0, 0, 3, 3}, .fold = 4};
  const Shape shape{2, 3, 3, 48};
  EXPECT_EQ(images.Find(packing, shape), nullptr);
  auto made = images.FindOrMake(packing, shape, 1000);
  EXPECT_EQ(images.FindOrMake(packing, shape, 1000), made);
  EXPECT_EQ(images.Find(packing, shape), made);
  EXPECT_EQ(images.Find({.padding = packing.padding}, shape), nullptr);
  EXPECT_EQ(images.Find(packing, {2, 3, 3, 64}), nullptr);
  made.reset();
  EXPECT_EQ(images.Find(packing, shape), nullptr);
}

TEST_F(VendorProductsTest, FoldsWhatIsStridedAndNarrowAlone) {
  const auto offers = [&](const Convolution& conv, int64_t channels, ProductPass pass) {
    const auto variants =
        ConvolutionVariants(pass, conv, MakeOperands(conv, {1, 12, 12, channels}, DType::kFloat32));
    return std::any_of(variants.begin(), variants.end(), [](const ConvolutionVariant& variant) {
      return variant.name.starts_with("folded");
    });
  };
  const Convolution conv{.out_channels = 4, .kernel = 3, .stride = 2};
  EXPECT_TRUE(offers(conv, 16, ProductPass::kForward));
  EXPECT_FALSE(offers(conv, 17, ProductPass::kForward));
  EXPECT_FALSE(offers(conv, 3, ProductPass::kBackwardData));
  EXPECT_FALSE(offers({.out_channels = 4, .kernel = 3}, 3, ProductPass::kForward));
  EXPECT_FALSE(offers({.out_channels = 4, .kernel = 2, .stride = 2}, 3, ProductPass::kForward));
  EXPECT_FALSE(
      offers({.out_channels = 4, .kernel = 3, .stride = 2, .groups = 2}, 4, ProductPass::kForward));
}

TEST_F(VendorProductsTest, NoiseFillsBothTypes) {
  const auto stream = MakeStream(0);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int64_t count : {1, 7, 4096}) {
      const Tensor tensor = Make(dtype, {count});
      FillWithNoise(*stream, tensor);
      stream->Synchronize();
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < count; ++i) {
        const double value = At(tensor.data, dtype, i);
        EXPECT_LE(std::abs(value), 1);
        sum += value;
        squares += value * value;
      }
      if (count < 4096) continue;
      EXPECT_NEAR(sum / 4096, 0, 0.05);
      EXPECT_NEAR(squares / 4096, 1.0 / 3, 0.03);
    }
  }
}

TEST_F(VendorProductsTest, AddsOneGradientToAnother) {
  const auto stream = MakeStream(0);
  for (const int64_t count : {1, 7, 4096}) {
    const Tensor from = Make(DType::kFloat32, {count}), to = Make(DType::kFloat32, {count});
    for (int64_t i = 0; i < count; ++i) Set(to.data, to.dtype, i, static_cast<double>(i % 11));
    AddGradient(*stream, from, to);
    stream->Synchronize();
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(At(to.data, to.dtype, i),
                At(from.data, from.dtype, i) + static_cast<double>(i % 11));
    }
  }
}

TEST_F(VendorProductsTest, PaddingThatIsNotReadIsMadeEven) {
  // After the last window: 9 + 1 + 0 and 9 + 1 + 1 hold as many windows of 3, every second place.
  const Convolution conv{.out_channels = 4, .kernel = 3, .stride = 2, .padding = {1, 1, 0, 0}};
  const auto variants = ConvolutionVariants(ProductPass::kForward, conv,
                                            MakeOperands(conv, {1, 8, 8, 4}, DType::kFloat32));
  EXPECT_EQ(variants.at(0).problem.padding, Padding::Same(1));
  EXPECT_EQ(Check(ProductPass::kForward, conv, {1, 8, 8, 4}, DType::kFloat32),
            (Names{"plain fused:loops", "plain:loops", "folded fused:loops", "folded:loops"}));
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
