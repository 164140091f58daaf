// layers/cuda/kernels/product_kernels.h - what own kernels do around the vendor's products.
#pragma once

#include <cstdint>

#include "core/device/stream.h"
#include "core/tensor/tensor.h"
#include "layers/spec.h"

namespace convoy::cuda {

// y = y + bias per channel, then the ReLU. y [..., C], bias fp32 [C] or empty.
void AddBiasRelu(Stream& stream, const Tensor& bias, bool relu, const Tensor& y);

// How images lie in a copy: with `padding` around them, and with each square of fold x fold places
// as one place. Its channels are those of the places, row by row; there may be more, of zeros.
struct Packing {
  Padding padding;
  int64_t fold = 1;
  bool operator==(const Packing&) const = default;
};

// `to` = `from`, [N, H, W, C], packed. Same type. `to` is zero after the images, and images
// are cut at the end of `to`.
void PackImages(Stream& stream, const Tensor& from, const Packing& packing, const Tensor& to);

// to = the weights [O, K, K, C] that PackImages would have folded into `from`; fp32 or bf16 to
// fp32. They are added to what is in `to` if `adds`.
void UnpackGradient(Stream& stream, const Tensor& from, int64_t fold, bool adds, const Tensor& to);

// to += from, fp32.
void AddGradient(Stream& stream, const Tensor& from, const Tensor& to);

// Numbers that look like chance, between -1 and 1: a device draws less power on zeros, and is
// faster.
void FillWithNoise(Stream& stream, const Tensor& tensor);

}  // namespace convoy::cuda
