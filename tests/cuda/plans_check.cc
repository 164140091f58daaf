// Asks cuDNN for the plans of every convolution of alexnet2012 in all variants, and has it build
// one of each, for a device that is only described: which engines a device has can be known without
// it. How fast they are, and whether they are right, cannot (candidates_test.cc).
#include <cudnn.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"
#include "layers/analysis.h"
#include "layers/cuda/products/convolution_variants.h"
#include "layers/models.h"
#include "tests/cuda/described_devices.h"

namespace convoy::cuda {
namespace {

constexpr int64_t kBatch = 128;

struct Precision {
  const char* name;
  DType dtype;
  bool tensor_cores;
};
constexpr Precision kPrecisions[] = {{"fp32", DType::kFloat32, false},
                                     {"tf32", DType::kFloat32, true},
                                     {"bf16", DType::kBFloat16, true}};

struct TestedConvolution {
  LayerSpec layer;
  Shape input;
};

// With 224, the padding of conv1 differs between its sides.
std::vector<TestedConvolution> ConvolutionsOfAlexNet() {
  std::vector<TestedConvolution> convolutions;
  for (const int size : {227, 224}) {
    for (const LayerSite& site : SitesOf(MakeModel("alexnet2012", {.input = size}))) {
      const bool is_known =
          std::any_of(convolutions.begin(), convolutions.end(), [&](const auto& other) {
            return other.layer == site.layer && other.input == site.input;
          });
      if (std::holds_alternative<Convolution>(site.layer.layer) && !is_known) {
        convolutions.push_back({site.layer, site.input});
      }
    }
  }
  return convolutions;
}

// Addresses that nobody follows.
Tensor Pretended(DType dtype, const Shape& shape) {
  return {reinterpret_cast<void*>(uintptr_t{1} << 20), dtype, shape};
}

ProductOperands OperandsOf(const TestedConvolution& tested, DType dtype) {
  const auto& conv = std::get<Convolution>(tested.layer.layer);
  const Shape weight{conv.out_channels, conv.kernel, conv.kernel, tested.input[2] / conv.groups};
  const Shape bias{conv.out_channels};
  const Tensor x = Pretended(dtype, tested.input.Prepend(kBatch));
  const Tensor y = Pretended(dtype, OutputShape(tested.layer, tested.input).Prepend(kBatch));
  return {.name = tested.layer.name,
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

// What there must be of a product.
struct Found {
  bool any = false;
  bool fused = false;  // with bias and ReLU
};

class PlansCheck {
 public:
  explicit PlansCheck(const std::string& properties) : context_(properties) {}

  void Check(const TestedConvolution& tested, const Precision& precision, ProductPass pass) {
    Found found;
    const std::string product = fmt::format("{} of {} {} {}", tested.layer.name,
                                            tested.input.ToString(), NameOf(pass), precision.name);
    for (const ConvolutionVariant& variant :
         ConvolutionVariants(pass, std::get<Convolution>(tested.layer.layer),
                             OperandsOf(tested, precision.dtype))) {
      const auto [plan, verdict] = FirstPlanOf(variant, precision.tensor_cores);
      fmt::print("{}, {}: {}\n", product, variant.name, verdict);
      if (plan.empty()) continue;
      found.any = true;
      found.fused |= variant.problem.adds_bias && variant.problem.relu;
    }
    Require(found.any, product, "no kernel that repeats its bits");
    if (pass == ProductPass::kForward) Require(found.fused, product, "no fused kernel");
    std::fflush(stdout);
  }

  int failures() const { return failures_; }

 private:
  // Returns the first plan that can be built, empty if none can, and what is to be said of it.
  std::pair<std::string, std::string> FirstPlanOf(const ConvolutionVariant& variant,
                                                  bool tensor_cores) {
    std::string refusal = "nothing is proposed";
    try {
      ConvolutionGraph graph(variant.problem);
      const std::vector<std::string> plans = graph.ProposePlans(
          context_, {.tensor_cores = tensor_cores, .workspace_bytes = kLeastWorkspaceBytes});
      for (const std::string& plan : plans) {
        try {
          const int64_t bytes = graph.BuildPlan(plan);
          return {plan, fmt::format("{} of {} proposed, {} MB of workspace", plan, plans.size(),
                                    bytes / 1'000'000)};
        } catch (const Error& error) {
          refusal = error.message();
        }
      }
    } catch (const Error& error) {
      refusal = error.message();
    }
    return {"", "refused: " + refusal};
  }

  void Require(bool holds, const std::string& product, const char* complaint) {
    if (holds) return;
    fmt::print("FAILED: {}: {}\n", product, complaint);
    ++failures_;
  }

  CudnnContext context_;
  int failures_ = 0;
};

int Run(const std::string& device) {
  PlansCheck check(PropertiesOf(device));
  for (const TestedConvolution& tested : ConvolutionsOfAlexNet()) {
    for (const Precision& precision : kPrecisions) {
      for (const ProductPass pass :
           {ProductPass::kForward, ProductPass::kBackwardData, ProductPass::kBackwardWeights}) {
        check.Check(tested, precision, pass);
      }
    }
  }
  fmt::print("{}, {}: {} failures\n", device, CudnnVersion(), check.failures());
  return check.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace convoy::cuda

int main(int count, char** arguments) {
  constexpr size_t kTakesDescriptions = 90800;
  constexpr int kSkipped = 77;
  if (cudnnGetVersion() < kTakesDescriptions) {
    fmt::print("{}: skipped: only from 9.8 on does cuDNN plan for a device that is not there\n",
               convoy::cuda::CudnnVersion());
    return kSkipped;
  }
  try {
    return convoy::cuda::Run(count > 1 ? arguments[1] : "H200");
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 1;
  }
}
