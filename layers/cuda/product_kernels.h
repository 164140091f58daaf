// layers/cuda/product_kernels.h - what own kernels do around the vendor's products.
#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "layers/spec.h"

namespace convoy::cuda {

// y = y + bias per channel, then the ReLU. y [..., C], bias fp32 [C] or empty.
void AddBiasRelu(Stream& stream, const Tensor& bias, bool relu, const Tensor& y);

// `to` = `from`, [N, H, W, C], in the middle of zeros: behind the padding at the top and left, in
// the first channels. Same type.
void PackImages(Stream& stream, const Tensor& from, const Padding& padding, const Tensor& to);

// to = the first channels of from, [..., C], fp32 or bf16 to fp32.
void UnpackGradient(Stream& stream, const Tensor& from, const Tensor& to);

}  // namespace convoy::cuda
