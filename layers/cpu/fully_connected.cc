// Fully connected layers by oneDNN, the weights [out, in] as they lie in the arena. Forward is a
// matmul, which reads them at full speed in that order; the gradients are inner products, which in
// oneDNN 3.2 are plain matrix products without copies, and faster than its matmul. A gradient that
// is added to what is there is a matmul all the same: an inner product would need memory for
// another gradient, and with its addition is no faster (fc6 and fc7 at 128 rows: fp32 42 and 18 ms
// against 36 and 16, bf16 without AMX 58 and 31 against 61 and 31).
#include <dnnl.hpp>

#include "layers/cpu/primitive_operation.h"

namespace convoy::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

memory::desc Matrix(int64_t rows, int64_t columns, DType dtype, Tag order = Tag::ab) {
  const auto type = dtype == DType::kBFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
  return {{rows, columns}, type, order};
}

struct Sizes {
  int64_t rows, in, out;
};

BoundPrimitive BindForward(const Wiring& wiring, const Sizes& sizes, OneDnn& onednn) {
  const LayerParameters& parameters = wiring.parameters;
  const DType dtype = wiring.x.dtype;
  const memory::desc bias =
      parameters.bias ? Matrix(1, sizes.out, DType::kFloat32) : memory::desc();
  const dnnl::matmul::primitive_desc description(
      onednn.engine(), Matrix(sizes.rows, sizes.in, dtype),
      Matrix(sizes.in, sizes.out, dtype, Tag::ba), bias,
      Matrix(sizes.rows, sizes.out, wiring.y.dtype),
      AttributesOf(wiring.relu ? AfterPrimitive::kRelu : AfterPrimitive::kNothing));
  std::vector<BoundPrimitive::Argument> arguments = {
      {DNNL_ARG_SRC, wiring.x.data},
      {DNNL_ARG_WEIGHTS, parameters.compute_weight.data},
      {DNNL_ARG_DST, wiring.y.data}};
  if (parameters.bias) arguments.push_back({DNNL_ARG_BIAS, parameters.bias.data});
  return onednn.Bind(description, arguments);
}

WeightGradient BindAddingWeights(const Wiring& wiring, const Sizes& sizes, OneDnn& onednn) {
  const LayerParameters& parameters = wiring.parameters;
  const DType dtype = wiring.x.dtype;
  const dnnl::matmul::primitive_desc description(
      onednn.engine(), Matrix(sizes.out, sizes.rows, dtype, Tag::ba),
      Matrix(sizes.rows, sizes.in, dtype), Matrix(sizes.out, sizes.in, DType::kFloat32),
      AttributesOf(AfterPrimitive::kSum));
  WeightGradient gradient;
  gradient.product.main =
      onednn.Bind(description, {{DNNL_ARG_SRC, wiring.dy.data},
                                {DNNL_ARG_WEIGHTS, wiring.x.data},
                                {DNNL_ARG_DST, parameters.weight_gradient.data}});
  if (parameters.bias) {
    gradient.bias.emplace(wiring.dy, parameters.bias_gradient, wiring.threads);
  }
  return gradient;
}

void BindBackward(const Wiring& wiring, const Sizes& sizes, OneDnn& onednn,
                  PrimitiveSet& primitives) {
  const LayerParameters& parameters = wiring.parameters;
  const DType dtype = wiring.x.dtype;
  const memory::desc x = Matrix(sizes.rows, sizes.in, dtype);
  const memory::desc weight = Matrix(sizes.out, sizes.in, dtype);
  const memory::desc dy = Matrix(sizes.rows, sizes.out, wiring.dy.dtype);
  const memory::desc bias =
      parameters.bias ? memory::desc({sizes.out}, memory::data_type::f32, Tag::a) : memory::desc();
  // What oneDNN wants to know of the forward pass; never run.
  const dnnl::inner_product_forward::primitive_desc forward(
      onednn.engine(), dnnl::prop_kind::forward_training, x, weight, bias, dy, AttributesOf());

  const dnnl::inner_product_backward_weights::primitive_desc weights(
      onednn.engine(), x, Matrix(sizes.out, sizes.in, DType::kFloat32), bias, dy, forward,
      AttributesOf());
  std::vector<BoundPrimitive::Argument> arguments = {
      {DNNL_ARG_SRC, wiring.x.data},
      {DNNL_ARG_DIFF_DST, wiring.dy.data},
      {DNNL_ARG_DIFF_WEIGHTS, parameters.weight_gradient.data}};
  if (parameters.bias) arguments.push_back({DNNL_ARG_DIFF_BIAS, parameters.bias_gradient.data});
  primitives.backward_weights.product.main = onednn.Bind(weights, arguments);
  if (wiring.accumulates) primitives.adding_weights = BindAddingWeights(wiring, sizes, onednn);
  if (!wiring.dx) return;

  const dnnl::inner_product_backward_data::primitive_desc data(onednn.engine(), x, weight, dy,
                                                               forward, AttributesOf());
  primitives.backward_data.main =
      onednn.Bind(data, {{DNNL_ARG_DIFF_DST, wiring.dy.data},
                         {DNNL_ARG_WEIGHTS, parameters.compute_weight.data},
                         {DNNL_ARG_DIFF_SRC, wiring.dx.data}});
}

}  // namespace

std::unique_ptr<Operation> MakeOperation(const FullyConnected&, const Wiring& wiring,
                                         OneDnn& onednn) {
  const Sizes sizes{.rows = wiring.x.shape[0],
                    .in = wiring.x.shape.DropFirst().count(),
                    .out = wiring.y.shape[1]};
  PrimitiveSet primitives;
  primitives.flops = 2.0 * static_cast<double>(sizes.rows * sizes.in * sizes.out);
  ExplainingFailure(wiring.name, [&] {
    primitives.forward.main = BindForward(wiring, sizes, onednn);
    if (wiring.training) BindBackward(wiring, sizes, onednn, primitives);
  });
  return MakePrimitiveOperation(wiring, std::move(primitives));
}

}  // namespace convoy::cpu
