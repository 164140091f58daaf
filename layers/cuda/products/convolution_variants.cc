#include "layers/cuda/products/convolution_variants.h"

#include <fmt/core.h>

#include <cstddef>
#include <utility>

#include "core/device/memory.h"

namespace convoy::cuda {
namespace {

// More groups than these are cheaper in one grouped kernel than in so many launches.
constexpr int kMaxSplitGroups = 4;

// Layers with more channels than these after folding have enough without.
constexpr int64_t kMaxFoldedChannels = 64;

// The alignment that the addresses of all calls share, 16 at most: what a thread loads at once.
void FindAlignment(const ProductOperands& operands, ConvolutionVariant& variant) {
  // A copy begins at the start of memory of its own.
  alignas(16) std::byte start_of_memory{};
  void* const copy = &start_of_memory;
  for (int64_t group = 0; group < variant.calls; ++group) {
    const ConvolutionMemory memory =
        MemoryOfCall(variant.problem, operands, group, variant.packs_x ? copy : operands.x.data,
                     variant.packs_weight ? copy : operands.weight.data,
                     variant.unpacks ? copy : operands.weight_gradient.data);
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

// Padding after the last window does no harm if the size of y does not change by it, and more
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
  VariantList(ProductPass pass, const Convolution& conv, const ProductOperands& operands)
      : operands_(operands), groups_(conv.groups) {
    const Shape& x = pass == ProductPass::kBackwardData ? operands.dx.shape : operands.x.shape;
    const Shape& y = pass == ProductPass::kForward ? operands.y.shape : operands.dy.shape;
    plain_.problem = {
        .pass = pass,
        .dtype = operands.x.dtype,
        .result_dtype = pass == ProductPass::kBackwardWeights ? DType::kFloat32 : operands.x.dtype,
        .x = LayoutOf(x),
        .y = LayoutOf(y),
        .kernel = conv.kernel,
        .stride = conv.stride,
        .channels_per_group = x[3] / conv.groups,
        .padding = EvenWherePossible(conv, x, y)};
    plain_.name = groups_ > 1 ? "grouped" : "plain";
  }

  std::vector<ConvolutionVariant> List() && {
    Add(plain_);
    if (groups_ > 1 && groups_ <= kMaxSplitGroups) Add(Split());
    if (plain_.problem.pass != ProductPass::kBackwardData) AddPacked();
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
      Add(Packed("padded", plain.x.channels));
    }
    // cuDNN's tensor core kernels load 8 values of bf16 at once, and copy x themselves if they
    // cannot. With fewer than 3 channels, most of the work would be on zeros.
    const int64_t channels = plain.x.channels;
    if (groups_ == 1 && plain.dtype == DType::kBFloat16 && channels >= 3 && channels < 8) {
      Add(Packed("packed", 8));
    }
    const int64_t fold = plain.stride;
    if (groups_ == 1 && fold >= 2 && plain.kernel > fold &&
        fold * fold * channels <= kMaxFoldedChannels) {
      Add(Folded());
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
      packed.packing.padding = std::exchange(padding, {});
    }
    if (channels != problem.x.channels) FillChannels(packed, channels);
    problem.x.pixel_stride = problem.x.channels;
    return packed;
  }

  // The kernel is as many squares of places as hold it; its taps beyond are zero. x is copied as
  // far as windows reach, in places of a multiple of 16 bytes.
  ConvolutionVariant Folded() const {
    ConvolutionVariant folded = plain_;
    folded.name = "folded";
    folded.packs_x = true;
    ConvolutionProblem& problem = folded.problem;
    const int64_t fold = std::exchange(problem.stride, 1);
    folded.packing = {.padding = std::exchange(problem.padding, {}), .fold = fold};
    problem.kernel = (problem.kernel + fold - 1) / fold;
    problem.x.height = problem.y.height + problem.kernel - 1;
    problem.x.width = problem.y.width + problem.kernel - 1;
    FillChannels(folded, RoundUp(fold * fold * problem.x.channels, 16 / SizeOf(problem.dtype)));
    problem.x.pixel_stride = problem.x.channels;
    return folded;
  }

  // x and the weights of a variant without groups get `channels`.
  static void FillChannels(ConvolutionVariant& variant, int64_t channels) {
    ConvolutionProblem& problem = variant.problem;
    problem.x.channels = problem.channels_per_group = channels;
    variant.packs_weight = problem.pass == ProductPass::kForward;
    variant.unpacks = problem.pass == ProductPass::kBackwardWeights;
  }

  // What follows the product is part of cuDNN's graph, or left to own kernels.
  void Add(const ConvolutionVariant& base) {
    const bool forward = base.problem.pass == ProductPass::kForward;
    const bool adds_bias = forward && operands_.bias;
    const bool relu = forward && operands_.relu;
    const bool masks = base.problem.pass == ProductPass::kBackwardData && operands_.mask_dx;
    if (adds_bias || relu || masks) {
      ConvolutionVariant& fused = AddAs("fused", base);
      fused.problem.adds_bias = adds_bias;
      fused.problem.relu = relu;
      fused.problem.masks = masks;
    }
    variants_.push_back(base);
    variants_.back().finishes = adds_bias || relu || masks;
    if (base.problem.result_dtype != base.problem.dtype) {
      ConvolutionVariant& rounded = AddAs("rounded", base);
      rounded.rounds = true;
      rounded.unpacks = true;
      rounded.problem.result_dtype = rounded.problem.dtype;
    }
  }

  ConvolutionVariant& AddAs(const char* form, const ConvolutionVariant& base) {
    variants_.push_back(base);
    variants_.back().name += fmt::format(" {}", form);
    return variants_.back();
  }

  const ProductOperands& operands_;
  int64_t groups_;
  ConvolutionVariant plain_;
  std::vector<ConvolutionVariant> variants_;
};

}  // namespace

ConvolutionMemory MemoryOfCall(const ConvolutionProblem& problem, const ProductOperands& operands,
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
    case ProductPass::kForward:
      memory[kResult] = at(operands.y.data, out, problem.dtype);
      break;
    case ProductPass::kBackwardData:
      memory[kResult] = at(operands.dx.data, in, problem.dtype);
      break;
    case ProductPass::kBackwardWeights:
      memory[kResult] = at(weight_gradient, weights, problem.result_dtype);
      break;
  }
  return memory;
}

std::vector<ConvolutionVariant> ConvolutionVariants(ProductPass pass, const Convolution& conv,
                                                    const ProductOperands& operands) {
  return VariantList(pass, conv, operands).List();
}

}  // namespace convoy::cuda
