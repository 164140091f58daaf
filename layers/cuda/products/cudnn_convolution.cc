#include "layers/cuda/products/cudnn_convolution.h"

#include <utility>

#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/packed_images.h"
#include "layers/cuda/kernels/product_kernels.h"
#include "layers/cuda/products/convolution_variants.h"

namespace convoy::cuda {
namespace {

// Returns the shapes of x and of the weights as cuDNN sees them.
Shape PackedShape(const ConvolutionProblem& problem) {
  return {problem.x.batch, problem.x.height, problem.x.width, problem.x.channels};
}
Shape WeightShape(const ConvolutionVariant& variant) {
  const ConvolutionProblem& problem = variant.problem;
  return {variant.calls * problem.y.channels, problem.kernel, problem.kernel,
          problem.channels_per_group};
}

int64_t BytesOf(const Shape& shape, DType dtype) { return shape.count() * SizeOf(dtype); }

class ConvolutionProduct final : public BoundProduct {
 public:
  ConvolutionProduct(const ProductOperands& operands, const ConvolutionVariant& variant,
                     std::shared_ptr<ConvolutionGraph> graph, std::string plan,
                     const ConvolutionResources& resources)
      : operands_(operands),
        variant_(variant),
        graph_(std::move(graph)),
        plan_(std::move(plan)),
        context_(*resources.context) {
    const ConvolutionProblem& problem = variant.problem;
    workspace_ = resources.workspace->AtLeast(graph_->BuildPlan(plan_));
    Tensor x = operands.x, weight = operands.weight, weight_gradient = operands.weight_gradient;
    if (variant.packs_x) {
      const Shape shape = PackedShape(problem);
      FindPackedMemory(shape, resources);
      x = packed_x_ = ViewOf(*packed_memory_, problem.dtype, shape);
    }
    if (variant.packs_weight) {
      weight = packed_weight_ = Allocate(resources.device, problem.dtype);
    }
    if (variant.unpacks) {
      weight_gradient = packed_gradient_ = Allocate(resources.device, problem.result_dtype);
    }
    const auto calls_into = [&](const Tensor& gradient) {
      std::vector<ConvolutionMemory> calls;
      for (int64_t group = 0; group < variant.calls; ++group) {
        calls.push_back(MemoryOfCall(problem, operands, group, x.data, weight.data, gradient.data));
      }
      return calls;
    };
    calls_ = calls_into(weight_gradient);
    if (!operands.accumulates || problem.pass != ProductPass::kBackwardWeights) return;
    added_gradient_ =
        variant.unpacks ? packed_gradient_ : Allocate(resources.device, problem.result_dtype);
    adding_calls_ = calls_into(added_gradient_);
  }

  void Run(Stream& stream) override {
    Execute(stream, calls_);
    if (packed_gradient_) {
      UnpackGradient(stream, packed_gradient_, variant_.packing.fold, /*adds=*/false,
                     operands_.weight_gradient);
    }
    if (!variant_.finishes) return;
    if (variant_.problem.pass == ProductPass::kForward) {
      AddBiasRelu(stream, operands_.bias, operands_.relu, operands_.y);
    } else {
      MaskGradient(stream, operands_.x, operands_.dx);
    }
  }

  // cuDNN's gradient of weights adds to nothing: an own kernel does.
  void RunAdding(Stream& stream) override {
    CONVOY_CHECK(added_gradient_, "this product was not made to add to its result");
    Execute(stream, adding_calls_);
    UnpackGradient(stream, added_gradient_, variant_.packing.fold, /*adds=*/true,
                   operands_.weight_gradient);
  }

 private:
  void Execute(Stream& stream, const std::vector<ConvolutionMemory>& calls) {
    if (packed_x_ && !forward_packs_) PackImages(stream, operands_.x, variant_.packing, packed_x_);
    if (packed_weight_) {
      PackImages(stream, operands_.weight, {.fold = variant_.packing.fold}, packed_weight_);
    }
    context_.Use(stream);
    for (const ConvolutionMemory& call : calls) {
      graph_->Execute(context_, plan_, call, workspace_ ? workspace_->data() : nullptr);
    }
  }

  // Forward keeps its copy of x, which the gradient of the weights reads if it needs the same.
  void FindPackedMemory(const Shape& shape, const ConvolutionResources& resources) {
    const int64_t bytes = BytesOf(shape, variant_.problem.dtype);
    PackedImages* const kept = operands_.packed_x.get();
    if (kept != nullptr && variant_.problem.pass == ProductPass::kForward) {
      packed_memory_ = kept->FindOrMake(variant_.packing, shape, bytes);
    } else if (kept != nullptr) {
      packed_memory_ = kept->Find(variant_.packing, shape);
      forward_packs_ = packed_memory_ != nullptr;
    }
    if (!packed_memory_) packed_memory_ = resources.packed->AtLeast(bytes);
  }

  // Memory of the size of the weights as cuDNN sees them.
  Tensor Allocate(int device, DType dtype) {
    const Shape shape = WeightShape(variant_);
    weight_memory_ = AllocateDevice(device, BytesOf(shape, dtype));
    return ViewOf(weight_memory_, dtype, shape);
  }

  ProductOperands operands_;
  ConvolutionVariant variant_;
  std::shared_ptr<ConvolutionGraph> graph_;
  std::string plan_;
  CudnnContext& context_;
  std::shared_ptr<const Buffer> workspace_, packed_memory_;
  bool forward_packs_ = false;  // into packed_memory_
  Buffer weight_memory_;
  Tensor packed_x_, packed_weight_, packed_gradient_;
  Tensor added_gradient_;  // that an own kernel adds to the arena
  std::vector<ConvolutionMemory> calls_, adding_calls_;
};

// Returns the plans that cuDNN proposes for a variant.
std::vector<KernelCandidate> CandidatesOf(const ConvolutionVariant& variant,
                                          const ProductOperands& operands,
                                          const ConvolutionResources& resources) {
  std::vector<KernelCandidate> candidates;
  const auto graph = std::make_shared<ConvolutionGraph>(variant.problem);
  for (const std::string& plan : graph->ProposePlans(*resources.context, resources.limits)) {
    candidates.push_back(
        {fmt::format("{}:{}", variant.name, plan),
         [operands, variant, graph, plan, resources]() -> std::unique_ptr<BoundProduct> {
           return std::make_unique<ConvolutionProduct>(operands, variant, graph, plan, resources);
         }});
  }
  return candidates;
}

}  // namespace

std::vector<CandidateGroup> ConvolutionCandidates(ProductPass pass, const Convolution& conv,
                                                  const ProductOperands& operands,
                                                  const ConvolutionResources& resources) {
  std::vector<CandidateGroup> groups;
  for (const ConvolutionVariant& variant : ConvolutionVariants(pass, conv, operands)) {
    groups.push_back({.candidates = CandidatesOrRefusal(
                          variant.name, [&] { return CandidatesOf(variant, operands, resources); }),
                      .rounds = variant.rounds});
  }
  return groups;
}

}  // namespace convoy::cuda
