// Builds the cuDNN graphs of every convolution of a network, in all variants, and has cuDNN's
// frontend validate them. Needs cuDNN, but neither a device nor a driver.
#include <fmt/core.h>

#include <exception>
#include <string>
#include <variant>

#include "layers/analysis.h"
#include "layers/cuda/convolution_variants.h"
#include "layers/models.h"

namespace convoy::cuda {
namespace {

// Addresses that nobody follows.
Tensor Pretended(DType dtype, const Shape& shape) {
  return {reinterpret_cast<void*>(uintptr_t{1} << 20), dtype, shape};
}

Library::ConvolutionOperands OperandsOf(const LayerSpec& layer, const Shape& input, DType dtype) {
  constexpr int64_t kBatch = 128;
  const auto& conv = std::get<Convolution>(layer.layer);
  const Shape weight{conv.out_channels, conv.kernel, conv.kernel, input[2] / conv.groups};
  const Shape bias{conv.out_channels};
  const Tensor x = Pretended(dtype, input.Prepend(kBatch));
  const Tensor y = Pretended(dtype, OutputShape(layer, input).Prepend(kBatch));
  return {.name = layer.name,
          .x = x,
          .weight = Pretended(dtype, weight),
          .y = y,
          .bias = Pretended(DType::kFloat32, bias),
          .compute_bias = Pretended(dtype, bias),
          .relu = true,
          .dy = y,
          .dx = x,
          .mask_dx = true,
          .weight_gradient = Pretended(DType::kFloat32, weight)};
}

// The number of graphs that are not valid.
int CheckConvolution(const LayerSpec& layer, const Shape& input, DType dtype) {
  int failures = 0;
  for (const ConvolutionPass pass : {ConvolutionPass::kForward, ConvolutionPass::kBackwardData,
                                     ConvolutionPass::kBackwardWeights}) {
    for (const ConvolutionVariant& variant : ConvolutionVariants(
             pass, std::get<Convolution>(layer.layer), OperandsOf(layer, input, dtype))) {
      std::string verdict = "valid";
      try {
        const ConvolutionGraph graph(variant.problem);
      } catch (const std::exception& error) {
        verdict = error.what();
        ++failures;
      }
      fmt::print("{} {} {}, {}: {}\n", layer.name, NameOf(pass), convoy::NameOf(dtype),
                 variant.name, verdict);
    }
  }
  return failures;
}

int CheckModel(const std::string& name, int size) {
  const NetworkSpec network = MakeModel(name, {.input = size});
  int failures = 0;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Shape shape = network.input;
    for (const LayerSpec& layer : network.layers) {
      if (std::holds_alternative<Convolution>(layer.layer)) {
        failures += CheckConvolution(layer, shape, dtype);
      }
      shape = OutputShape(layer, shape);
    }
  }
  return failures;
}

}  // namespace
}  // namespace convoy::cuda

int main() {
  using convoy::cuda::CheckModel;
  try {
    // With 224, the padding of conv1 differs between its sides.
    const int failures = CheckModel("alexnet2012", 227) + CheckModel("alexnet2012", 224);
    fmt::print("{} graphs are not valid\n", failures);
    return failures == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 1;
  }
}
