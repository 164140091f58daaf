// Convolutions and fully connected layers: products of the vendor's library, and what stands around
// them.
#include <optional>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/packed_images.h"
#include "layers/cuda/products/kernel_choice.h"

namespace convoy::cuda {
namespace {

struct Products {
  std::unique_ptr<BoundProduct> forward, backward_weights, backward_data;
  std::optional<BiasGradient> bias_gradient;  // if backward_weights does not write it
};

class ProductOperation final : public Operation {
 public:
  ProductOperation(const Wiring& wiring, Products products, int device)
      : wiring_(wiring), products_(std::move(products)), device_(device) {}

  void Forward(const StepContext& context) override { products_.forward->Run(*context.stream); }

  // The weights' gradient first, so that its reduction over the ranks starts as early as it can.
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    Stream& stream = *context.stream;
    if (wiring_.relu && !wiring_.dy_is_masked) {
      const PhaseTimer timer(context, wiring_.name, "backward relu");
      MaskGradient(stream, wiring_.y, wiring_.dy);
    }
    if (request.learns) {
      {
        const PhaseTimer timer(context, wiring_.name, "backward weights");
        if (products_.bias_gradient) products_.bias_gradient->Run(stream, request.adds);
        if (request.adds) {
          products_.backward_weights->RunAdding(stream);
        } else {
          products_.backward_weights->Run(stream);
        }
      }
      wiring_.parameters.ReportReady(request.observer);
    }
    if (request.wants_dx) {
      const PhaseTimer timer(context, wiring_.name, "backward data");
      products_.backward_data->Run(stream);
    }
    wiring_.parameters.ReportReleased(request.observer);
  }

  // The products alone, one after another.
  void AppendLimits(int, std::vector<OperationLimit>& limits) override {
    const std::unique_ptr<Stream> stream = MakeStream(device_);
    const Tensor &x = wiring_.x, &y = wiring_.y, &weight = wiring_.parameters.compute_weight;
    const double places = static_cast<double>(y.count()) / static_cast<double>(y.shape.back());
    const auto append = [&](const char* phase, BoundProduct* product) {
      if (product == nullptr) return;
      limits.push_back({.operation = wiring_.name + phase,
                        .seconds = MeasureSeconds(*stream, *product),
                        .flops = 2 * places * static_cast<double>(weight.count()),
                        .bytes = static_cast<double>(x.bytes() + y.bytes() + weight.bytes())});
    };
    append(" forward", products_.forward.get());
    append(" backward weights", products_.backward_weights.get());
    append(" backward data", products_.backward_data.get());
  }

 private:
  Wiring wiring_;
  Products products_;
  int device_;
};

ProductOperands OperandsOf(const Wiring& wiring) {
  const LayerParameters& parameters = wiring.parameters;
  return {.name = wiring.name,
          .x = wiring.x,
          .weight = parameters.compute_weight,
          .y = wiring.y,
          .bias = parameters.bias,
          .compute_bias = parameters.compute_bias,
          .relu = wiring.relu,
          .dy = wiring.dy,
          .dx = wiring.dx,
          .mask_dx = wiring.mask_dx,
          .weight_gradient = parameters.weight_gradient,
          .bias_gradient = parameters.bias_gradient,
          .accumulates = wiring.accumulates,
          .packed_x = nullptr};
}

// `make` gives the product of a pass.
template <typename Make>
Products MakeProducts(const Wiring& wiring, Make&& make) {
  Products products{.forward = make(ProductPass::kForward)};
  if (wiring.training) products.backward_weights = make(ProductPass::kBackwardWeights);
  if (wiring.training && wiring.dx) products.backward_data = make(ProductPass::kBackwardData);
  return products;
}

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Convolution& conv, const Wiring& wiring,
                                         const OperationResources& resources) {
  ProductOperands operands = OperandsOf(wiring);
  if (wiring.training) operands.packed_x = std::make_shared<PackedImages>(resources.device);
  Products products = MakeProducts(wiring, [&](ProductPass pass) {
    return resources.library->MakeConvolution(pass, conv, operands);
  });
  if (wiring.training && conv.has_bias) {
    products.bias_gradient.emplace(wiring.dy, operands.bias_gradient, resources.device);
  }
  return std::make_unique<ProductOperation>(wiring, std::move(products), resources.device);
}

std::unique_ptr<Operation> MakeOperation(const FullyConnected&, const Wiring& wiring,
                                         const OperationResources& resources) {
  const ProductOperands operands = OperandsOf(wiring);
  Products products = MakeProducts(wiring, [&](ProductPass pass) {
    return resources.library->MakeFullyConnected(pass, operands);
  });
  return std::make_unique<ProductOperation>(wiring, std::move(products), resources.device);
}

}  // namespace convoy::cuda
