#include "layers/cuda/cudnn_convolution.h"

#include <algorithm>
#include <utility>

#include "layers/cuda/operations.h"
#include "layers/cuda/product_kernels.h"

namespace convoy::cuda {
namespace {

using Operands = Library::ConvolutionOperands;

// More groups than these are cheaper in one grouped kernel than in so many launches.
constexpr int kMaxSplitGroups = 4;

// Where the operands of one group's call begin, and what each address is a multiple of.
ConvolutionMemory MemoryOf(const ConvolutionProblem& problem, const Operands& operands,
                           int64_t group, void* x, void* weight, void* weight_gradient) {
  const auto at = [&](void* data, int64_t elements, DType dtype) -> void* {
    if (data == nullptr) return nullptr;
    return static_cast<std::byte*>(data) + group * elements * SizeOf(dtype);
  };
  const int64_t in = problem.x.channels, out = problem.y.channels;
  const int64_t weights = out * problem.kernel * problem.kernel * problem.channels_per_group;
  ConvolutionMemory memory{};
  memory[kX] = at(x, in, problem.dtype);
  memory[kWeight] = at(weight, weights, problem.dtype);
  memory[kDy] = at(operands.dy.data, out, problem.dtype);
  if (problem.adds_bias) memory[kBias] = at(operands.compute_bias.data, out, problem.dtype);
  switch (problem.pass) {
    case ConvolutionPass::kForward:
      memory[kResult] = at(operands.y.data, out, problem.dtype);
      break;
    case ConvolutionPass::kBackwardData:
      memory[kResult] = at(operands.dx.data, in, problem.dtype);
      break;
    case ConvolutionPass::kBackwardWeights:
      memory[kResult] = at(weight_gradient, weights, problem.result_dtype);
      break;
  }
  return memory;
}

// The alignment that the addresses of all calls share, 16 at most: what a thread loads at once.
void FindAlignment(const Operands& operands, ConvolutionVariant& variant) {
  for (int64_t group = 0; group < variant.calls; ++group) {
    // What is copied first lies in memory of its own, and begins it.
    const ConvolutionMemory memory =
        MemoryOf(variant.problem, operands, group, variant.packs_x ? nullptr : operands.x.data,
                 variant.packs_weight ? nullptr : operands.weight.data,
                 variant.unpacks ? nullptr : operands.weight_gradient.data);
    for (size_t i = 0; i < memory.size(); ++i) {
      int64_t& alignment = variant.problem.alignment[i];
      while (reinterpret_cast<uintptr_t>(memory[i]) % static_cast<uintptr_t>(alignment) != 0) {
        alignment /= 2;
      }
    }
  }
}

ImageLayout LayoutOf(const Shape& shape) {
  return {.batch = shape[0],
          .height = shape[1],
          .width = shape[2],
          .channels = shape[3],
          .pixel_stride = shape[3]};
}

// Padding behind the last window does no harm where the size of y does not change by it, and more
// engines know even padding.
Padding EvenWherePossible(const Convolution& conv, const Shape& x, const Shape& y) {
  Padding padding = conv.padding;
  const auto size = [&](int64_t length, int around) {
    return (length + 2 * around - conv.kernel) / conv.stride + 1;
  };
  if (size(x[1], padding.top) == y[1]) padding.bottom = padding.top;
  if (size(x[2], padding.left) == y[2]) padding.right = padding.left;
  return padding;
}

class VariantList {
 public:
  VariantList(ConvolutionPass pass, const Convolution& conv, const Operands& operands)
      : operands_(operands), groups_(conv.groups) {
    const Shape& x = pass == ConvolutionPass::kBackwardData ? operands.dx.shape : operands.x.shape;
    const Shape& y = pass == ConvolutionPass::kForward ? operands.y.shape : operands.dy.shape;
    plain_.problem = {.pass = pass,
                      .dtype = operands.x.dtype,
                      .result_dtype = pass == ConvolutionPass::kBackwardWeights ? DType::kFloat32
                                                                                : operands.x.dtype,
                      .x = LayoutOf(x),
                      .y = LayoutOf(y),
                      .kernel = conv.kernel,
                      .stride = conv.stride,
                      .channels_per_group = x[3] / conv.groups,
                      .padding = EvenWherePossible(conv, x, y)};
    plain_.name = groups_ > 1 ? "grouped" : "plain";
  }

  std::vector<ConvolutionVariant> List() && {
    AddWithFusion(plain_);
    if (groups_ > 1 && groups_ <= kMaxSplitGroups) AddWithFusion(Split());
    if (plain_.problem.pass != ConvolutionPass::kBackwardData) AddPacked();
    std::stable_partition(variants_.begin(), variants_.end(),
                          [](const ConvolutionVariant& variant) { return !variant.is_fallback; });
    for (ConvolutionVariant& variant : variants_) FindAlignment(operands_, variant);
    return std::move(variants_);
  }

 private:
  ConvolutionVariant Split() const {
    ConvolutionVariant split = plain_;
    split.name = "split";
    split.calls = groups_;
    split.problem.x.channels /= groups_;
    split.problem.y.channels /= groups_;
    return split;
  }

  void AddPacked() {
    const ConvolutionProblem& plain = plain_.problem;
    const Padding& padding = plain.padding;
    if (padding.top != padding.bottom || padding.left != padding.right) {
      AddWithFusion(Packed("padded", plain.x.channels));
    }
    if (groups_ > 1 || plain.dtype != DType::kBFloat16) return;
    for (const int64_t channels : {4, 8}) {
      // More zeros than that cost more than fast kernels bring.
      if (plain.x.channels < channels && channels < 3 * plain.x.channels) {
        AddWithFusion(Packed(fmt::format("packed{}", channels), channels));
      }
    }
  }

  ConvolutionVariant Packed(const std::string& name, int64_t channels) const {
    ConvolutionVariant packed = plain_;
    packed.name = name;
    packed.packs_x = true;
    ConvolutionProblem& problem = packed.problem;
    Padding& padding = problem.padding;
    if (padding.top != padding.bottom || padding.left != padding.right) {
      problem.x.height += padding.top + padding.bottom;
      problem.x.width += padding.left + padding.right;
      packed.packing = std::exchange(padding, {});
    }
    if (channels != problem.x.channels) {
      problem.x.channels = problem.channels_per_group = channels;
      packed.packs_weight = problem.pass == ConvolutionPass::kForward;
      packed.unpacks = problem.pass == ConvolutionPass::kBackwardWeights;
    }
    problem.x.pixel_stride = problem.x.channels;
    return packed;
  }

  void AddWithFusion(const ConvolutionVariant& base) {
    const bool forward = base.problem.pass == ConvolutionPass::kForward;
    const bool data = base.problem.pass == ConvolutionPass::kBackwardData;
    const bool adds_bias = forward && operands_.bias;
    const bool relu = forward && operands_.relu;
    const bool masks = data && operands_.mask_dx;
    if (adds_bias || relu || masks) {
      ConvolutionVariant fused = base;
      fused.name += " fused";
      fused.problem.adds_bias = adds_bias;
      fused.problem.relu = relu;
      fused.problem.masks = masks;
      variants_.push_back(std::move(fused));
    }
    variants_.push_back(base);
    variants_.back().finishes = adds_bias || relu || masks;
    if (!forward && !data && base.problem.dtype == DType::kBFloat16) {
      ConvolutionVariant rounded = base;
      rounded.name += " bf16";
      rounded.is_fallback = true;
      rounded.unpacks = true;
      rounded.problem.result_dtype = DType::kBFloat16;
      variants_.push_back(std::move(rounded));
    }
  }

  const Operands& operands_;
  int64_t groups_;
  ConvolutionVariant plain_;
  std::vector<ConvolutionVariant> variants_;
};

// The shapes of x and of the weights as cuDNN sees them.
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
  ConvolutionProduct(const Operands& operands, const ConvolutionVariant& variant,
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
      packed_memory_ = resources.packed->AtLeast(BytesOf(shape, problem.dtype));
      x = packed_x_ = ViewOf(*packed_memory_, problem.dtype, shape);
    }
    if (variant.packs_weight) {
      weight = packed_weight_ = Allocate(resources.device, problem.dtype);
    }
    if (variant.unpacks) {
      weight_gradient = packed_gradient_ = Allocate(resources.device, problem.result_dtype);
    }
    for (int64_t group = 0; group < variant.calls; ++group) {
      calls_.push_back(
          MemoryOf(problem, operands, group, x.data, weight.data, weight_gradient.data));
    }
  }

  void Run(Stream& stream) override {
    if (packed_x_) PackImages(stream, operands_.x, variant_.packing, packed_x_);
    if (packed_weight_) PackImages(stream, operands_.weight, {}, packed_weight_);
    context_.Use(stream);
    for (const ConvolutionMemory& call : calls_) {
      graph_->Execute(context_, plan_, call, workspace_ ? workspace_->data() : nullptr);
    }
    if (packed_gradient_) UnpackGradient(stream, packed_gradient_, operands_.weight_gradient);
    if (!variant_.finishes) return;
    if (variant_.problem.pass == ConvolutionPass::kForward) {
      AddBiasRelu(stream, operands_.bias, operands_.relu, operands_.y);
    } else {
      MaskGradient(stream, operands_.x, operands_.dx);
    }
  }

 private:
  // Memory of the size of the weights as cuDNN sees them.
  Tensor Allocate(int device, DType dtype) {
    const Shape shape = WeightShape(variant_);
    weight_memory_ = AllocateDevice(device, BytesOf(shape, dtype));
    return ViewOf(weight_memory_, dtype, shape);
  }

  Operands operands_;
  ConvolutionVariant variant_;
  std::shared_ptr<ConvolutionGraph> graph_;
  std::string plan_;
  CudnnContext& context_;
  std::shared_ptr<const Buffer> workspace_, packed_memory_;
  Buffer weight_memory_;
  Tensor packed_x_, packed_weight_, packed_gradient_;
  std::vector<ConvolutionMemory> calls_;
};

// The plans that cuDNN proposes for a variant.
std::vector<KernelCandidate> CandidatesOf(const ConvolutionVariant& variant,
                                          const Operands& operands,
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

std::vector<ConvolutionVariant> ConvolutionVariants(ConvolutionPass pass, const Convolution& conv,
                                                    const Operands& operands) {
  return VariantList(pass, conv, operands).List();
}

std::vector<CandidateGroup> ConvolutionCandidates(ConvolutionPass pass, const Convolution& conv,
                                                  const Operands& operands,
                                                  const ConvolutionResources& resources) {
  std::vector<CandidateGroup> groups;
  for (const ConvolutionVariant& variant : ConvolutionVariants(pass, conv, operands)) {
    CandidateGroup group{.candidates = {}, .is_fallback = variant.is_fallback};
    try {
      group.candidates = CandidatesOf(variant, operands, resources);
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kDevice) throw;
      // Others may work; where none does, this one says why.
      group.candidates = {
          {variant.name, [error]() -> std::unique_ptr<BoundProduct> { throw error; }}};
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace convoy::cuda
