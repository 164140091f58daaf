// Convolution by oneDNN: NHWC activations as they lie in memory, weights [O, H, W, I] from the
// arena. Only the weights, small beside the activations, are put into the order that oneDNN
// prefers: once per pass, and their gradient back once.
#include <dnnl.hpp>

#include "layers/cpu/primitive_operation.h"

namespace convoy::cpu {
namespace {

using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;

memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kBFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc ImageDesc(const Tensor& image) {
  const Shape& shape = image.shape;
  return {{shape[0], shape[3], shape[1], shape[2]}, TypeOf(image.dtype), Tag::nhwc};
}

class Binder {
 public:
  Binder(const Convolution& conv, const Wiring& wiring, OneDnn& onednn)
      : conv_(conv),
        wiring_(wiring),
        onednn_(onednn),
        x_(ImageDesc(wiring.x)),
        y_(ImageDesc(wiring.y)),
        strides_{conv.stride, conv.stride},
        before_{conv.padding.top, conv.padding.left},
        after_{conv.padding.bottom, conv.padding.right} {
    const int64_t in_channels = wiring.x.shape[3];
    weight_dims_ = conv.groups == 1 ? Dims{conv.out_channels, in_channels, conv.kernel, conv.kernel}
                                    : Dims{conv.groups, conv.out_channels / conv.groups,
                                           in_channels / conv.groups, conv.kernel, conv.kernel};
    arena_order_ = conv.groups == 1 ? Tag::ohwi : Tag::gohwi;
    if (conv.has_bias) bias_ = {{conv.out_channels}, memory::data_type::f32, Tag::a};
    const int64_t places = wiring.y.count() / conv.out_channels;
    set_.flops = 2.0 * static_cast<double>(places * wiring.parameters.weight.count());
  }

  PrimitiveSet Bind() {
    if (FoldedPaddingAfter() >= 0) {
      BindFoldedForward();
    } else {
      BindForward();
    }
    if (wiring_.training) BindBackwardWeights();
    if (wiring_.dx) BindBackwardData();
    return std::move(set_);
  }

 private:
  memory::desc AnyOrder(DType dtype) const { return {weight_dims_, TypeOf(dtype), Tag::any}; }
  memory::desc ArenaOrder(const Tensor& weights) const {
    return {weight_dims_, TypeOf(weights.dtype), arena_order_};
  }

  // Memory for weights in the order `wanted`: the arena's own if that is the order.
  void* Place(const memory::desc& wanted, const Tensor& arena) {
    return wanted == ArenaOrder(arena) ? arena.data : Reserve(wanted);
  }
  void* Reserve(const memory::desc& desc) {
    set_.storage.push_back(AllocateHost(static_cast<int64_t>(desc.get_size())));
    return set_.storage.back().data();
  }
  void AppendReorder(const memory::desc& from_desc, void* from, const memory::desc& to_desc,
                     void* to, std::vector<BoundPrimitive>& sequence,
                     AfterPrimitive after = AfterPrimitive::kNothing) {
    if (from == to) return;
    const dnnl::reorder::primitive_desc description(onednn_.engine(), from_desc, onednn_.engine(),
                                                    to_desc, AttributesOf(after));
    sequence.push_back(onednn_.Bind(description, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}));
  }

  dnnl::prop_kind ForwardKind() const {
    return wiring_.training ? dnnl::prop_kind::forward_training
                            : dnnl::prop_kind::forward_inference;
  }
  dnnl::primitive_attr ForwardAttributes() const {
    return AttributesOf(wiring_.relu ? AfterPrimitive::kRelu : AfterPrimitive::kNothing);
  }
  dnnl::convolution_forward::primitive_desc DescribeForward(
      const dnnl::primitive_attr& attributes) const {
    return {onednn_.engine(),
            ForwardKind(),
            dnnl::algorithm::convolution_direct,
            x_,
            AnyOrder(wiring_.x.dtype),
            bias_,
            y_,
            strides_,
            before_,
            after_,
            attributes};
  }

  void BindForward() {
    const auto description = DescribeForward(ForwardAttributes());
    const Tensor& arena = wiring_.parameters.compute_weight;
    void* weights = Place(description.weights_desc(), arena);
    AppendReorder(ArenaOrder(arena), arena.data, description.weights_desc(), weights,
                  set_.forward.before);
    BindForwardMain(description, weights);
  }

  void BindForwardMain(const dnnl::convolution_forward::primitive_desc& description,
                       void* weights) {
    std::vector<BoundPrimitive::Argument> arguments = {{DNNL_ARG_SRC, wiring_.x.data},
                                                       {DNNL_ARG_WEIGHTS, weights},
                                                       {DNNL_ARG_DST, wiring_.y.data}};
    const Tensor& bias = wiring_.parameters.bias;
    if (bias) arguments.push_back({DNNL_ARG_BIAS, bias.data});
    set_.forward.main = onednn_.Bind(description, arguments);
  }

  // A first layer has few channels and a wide stride S. As NHWC lies in memory, S neighbouring
  // places of a line are one place of S * C channels, under which the stride along the line is 1:
  // more channels, which oneDNN's bf16 kernels need to be fast (a sixth faster for conv1, the zeros
  // that fill up the kernel included; in fp32 and backward nothing is gained).
  // Returns the padding after the folded line, or -1 if the shapes do not fit.
  int64_t FoldedPaddingAfter() const {
    constexpr int64_t kMostChannels = 16;
    const Shape& x = wiring_.x.shape;
    const bool fits = wiring_.x.dtype == DType::kBFloat16 && conv_.groups == 1 &&
                      conv_.stride > 1 && x[3] * conv_.stride <= kMostChannels &&
                      x[2] % conv_.stride == 0 && conv_.padding.left % conv_.stride == 0;
    if (!fits) return -1;
    const int64_t reach = wiring_.y.shape[2] - 1 + FoldedKernel();
    return reach - (conv_.padding.left + x[2]) / conv_.stride;
  }
  int64_t FoldedKernel() const { return (conv_.kernel + conv_.stride - 1) / conv_.stride; }

  void BindFoldedForward() {
    const Shape& x = wiring_.x.shape;
    const int64_t fold = conv_.stride, channels = x[3] * fold;
    const int64_t out_channels = conv_.out_channels, rows = conv_.kernel;
    const int64_t columns = FoldedKernel();
    const auto type = memory::data_type::bf16;
    const memory::desc folded_x({x[0], channels, x[1], x[2] / fold}, type, Tag::nhwc);
    const Dims folded_dims{out_channels, channels, rows, columns};
    const dnnl::convolution_forward::primitive_desc description(
        onednn_.engine(), ForwardKind(), dnnl::algorithm::convolution_direct, folded_x,
        {folded_dims, type, Tag::any}, bias_, y_, {fold, 1},
        {conv_.padding.top, conv_.padding.left / fold},
        {conv_.padding.bottom, FoldedPaddingAfter()}, ForwardAttributes());

    // The kernel's lines are filled up with zeros to a multiple of the stride.
    const Tensor& arena = wiring_.parameters.compute_weight;
    const int64_t line = columns * channels;
    const memory::desc lines(weight_dims_, type, Dims{rows * line, 1, line, x[3]});
    const memory::desc folded_lines(folded_dims, type, Tag::ohwi);
    void* filled = Reserve(folded_lines);
    void* weights = Reserve(description.weights_desc());
    AppendReorder(ArenaOrder(arena), arena.data, lines, filled, set_.forward.before);
    AppendReorder(folded_lines, filled, description.weights_desc(), weights, set_.forward.before);
    BindForwardMain(description, weights);
  }

  // What adds to the arena is the reorder at the end. There is none if oneDNN likes the arena's
  // order: then the gradient that is to be added is written elsewhere first.
  void BindBackwardWeights() {
    const dnnl::convolution_backward_weights::primitive_desc description(
        onednn_.engine(), dnnl::algorithm::convolution_direct, x_, AnyOrder(DType::kFloat32), {},
        y_, strides_, before_, after_, DescribeForward(AttributesOf()), AttributesOf());
    const Tensor& arena = wiring_.parameters.weight_gradient;
    void* gradient = Place(description.diff_weights_desc(), arena);
    set_.backward_weights = BindWeightGradient(description, gradient, AfterPrimitive::kNothing);
    if (!wiring_.accumulates) return;
    if (gradient == arena.data) gradient = Reserve(description.diff_weights_desc());
    set_.adding_weights = BindWeightGradient(description, gradient, AfterPrimitive::kSum);
  }

  // Without the bias: in fp32 oneDNN takes 5 to 12 % longer with it, our own sum 1 %.
  WeightGradient BindWeightGradient(
      const dnnl::convolution_backward_weights::primitive_desc& description, void* gradient,
      AfterPrimitive after_reorder) {
    const LayerParameters& parameters = wiring_.parameters;
    WeightGradient result;
    if (parameters.bias) {
      result.bias.emplace(wiring_.dy, parameters.bias_gradient, wiring_.threads);
    }
    result.product.main = onednn_.Bind(description, {{DNNL_ARG_SRC, wiring_.x.data},
                                                     {DNNL_ARG_DIFF_DST, wiring_.dy.data},
                                                     {DNNL_ARG_DIFF_WEIGHTS, gradient}});
    const Tensor& arena = parameters.weight_gradient;
    AppendReorder(description.diff_weights_desc(), gradient, ArenaOrder(arena), arena.data,
                  result.product.after, after_reorder);
    return result;
  }

  void BindBackwardData() {
    const Tensor& arena = wiring_.parameters.compute_weight;
    const dnnl::convolution_backward_data::primitive_desc description(
        onednn_.engine(), dnnl::algorithm::convolution_direct, x_, AnyOrder(wiring_.x.dtype), y_,
        strides_, before_, after_, DescribeForward(AttributesOf()), AttributesOf());
    void* weights = Place(description.weights_desc(), arena);
    AppendReorder(ArenaOrder(arena), arena.data, description.weights_desc(), weights,
                  set_.backward_data.before);
    set_.backward_data.main = onednn_.Bind(description, {{DNNL_ARG_DIFF_DST, wiring_.dy.data},
                                                         {DNNL_ARG_WEIGHTS, weights},
                                                         {DNNL_ARG_DIFF_SRC, wiring_.dx.data}});
  }

  const Convolution& conv_;
  const Wiring& wiring_;
  OneDnn& onednn_;
  memory::desc x_, y_, bias_;
  Dims strides_, before_, after_, weight_dims_;
  Tag arena_order_ = Tag::ohwi;
  PrimitiveSet set_;
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Convolution& conv, const Wiring& wiring,
                                         OneDnn& onednn) {
  PrimitiveSet primitives;
  ExplainingFailure(wiring.name, [&] { primitives = Binder(conv, wiring, onednn).Bind(); });
  return MakePrimitiveOperation(wiring, std::move(primitives));
}

}  // namespace convoy::cpu
