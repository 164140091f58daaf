// layers/cuda/products/library.h - the products that the vendor's libraries compute: convolutions
// and matrix products. vendor_library.cc implements them by cuDNN and cuBLASLt, tests/emulation by
// plain loops.
//
// Activations are NHWC or [N, F], in fp32 or bf16; weights [O, H, W, I / groups] or [out, in] in
// the type of the activations; gradients of weights and biases fp32. Sums are kept in fp32.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/device/stream.h"
#include "core/error.h"
#include "core/tensor/tensor.h"
#include "layers/backend.h"

namespace convoy::cuda {

class PackedImages;  // packed_images.h

// The three products of a layer with weights.
enum class ProductPass { kForward, kBackwardData, kBackwardWeights };

inline const char* NameOf(ProductPass pass) {
  switch (pass) {
    case ProductPass::kForward:
      return "forward";
    case ProductPass::kBackwardData:
      return "backward data";
    case ProductPass::kBackwardWeights:
      return "backward weights";
  }
  return "";
}

// A product and the memory it works on, which outlives it.
class BoundProduct {
 public:
  virtual ~BoundProduct() = default;
  // Queues it. The same inputs give the same bits every time.
  virtual void Run(Stream& stream) = 0;
  // Queues it, and adds its result to what is there. Only for gradients of weights, if
  // ProductOperands::accumulates; others throw (kDefect).
  virtual void RunAdding(Stream& stream) {
    (void)stream;
    CONVOY_CHECK(false, "this product cannot add to its result");
  }
};

// The operands of a layer's products. Of a convolution, x and y are NHWC; of a fully connected
// layer, x is [N, in] (any shape of that count), weight [out, in] and y [N, out]. `name` is the
// layer's, for messages and kernel choices. In a network that was cut over towers, or after a
// pooling, x and y are what Wiring says.
struct ProductOperands {
  std::string name;
  Tensor x, weight, y;
  Tensor bias;             // fp32 [O]; empty if there is none
  Tensor compute_bias;     // the same in the type of y
  bool relu = false;       // forward ends in a ReLU
  Tensor dy, dx;           // dx is empty if nobody can ask for it
  bool mask_dx = false;    // dx is zero if x is not above zero
  Tensor weight_gradient;  // fp32
  Tensor bias_gradient;    // fp32; empty if there is no bias
  // BoundProduct::RunAdding of the gradient of the weights may be called.
  bool accumulates = false;
  // If a convolution's forward always runs on the same x before the gradient of the weights:
  // what forward leaves for it. Null if a network does not train.
  std::shared_ptr<PackedImages> packed_x;
};

// Products are made while their activations and gradients hold nothing yet: candidates that are
// measured overwrite them, x and dy included. Weights and biases keep their values.
class Library {
 public:
  virtual ~Library() = default;

  // Returns "cuDNN 9.19.0, cuBLASLt 13.1"
  virtual std::string Describe() const = 0;

  // Forward: y = x * weight + bias, then the ReLU. Backward of the weights writes bias_gradient
  // too, but only for a fully connected layer.
  virtual std::unique_ptr<BoundProduct> MakeConvolution(ProductPass pass, const Convolution& conv,
                                                        const ProductOperands& operands) = 0;
  virtual std::unique_ptr<BoundProduct> MakeFullyConnected(ProductPass pass,
                                                           const ProductOperands& operands) = 0;

  // Returns how the products are computed that were made so far.
  virtual KernelChoices choices() const = 0;
  // Of the products that were measured since the last call.
  virtual std::vector<KernelMeasurement> TakeMeasurements() = 0;
  // Products that are made from here on are computed as `choices` say, if they name them.
  virtual void UseChoices(const KernelChoices& choices) = 0;
};

std::unique_ptr<Library> MakeLibrary(const CudaOptions& options);

}  // namespace convoy::cuda
