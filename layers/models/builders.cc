#include "layers/models/builders.h"

#include <utility>

#include "layers/analysis.h"

namespace convoy::models {

Builder& Builder::Append(const std::string& name, const Layer& layer) {
  layers_.push_back({name, layer});
  shape_ = OutputShape(layers_.back(), shape_);
  return *this;
}

Builder& Builder::Conv(const std::string& name, Convolution conv) { return Append(name, conv); }
Builder& Builder::Relu(const std::string& name) { return Activate(name, ActivationKind::kRelu); }
Builder& Builder::Activate(const std::string& name, ActivationKind kind) {
  return Append(name, Activation{.kind = kind});
}
Builder& Builder::Normalise(const std::string& name, Lrn lrn) { return Append(name, lrn); }
Builder& Builder::BatchNormalise(const std::string& name) {
  return Append(name, BatchNorm{.weight = {{InitKind::kConstant, 1}, 1, 0},
                                .bias = {{InitKind::kConstant, 0}, 1, 0}});
}
Builder& Builder::MaxPool(const std::string& name, int kernel, int stride, Rounding rounding) {
  return Append(
      name, Pool{.kind = PoolKind::kMax, .kernel = kernel, .stride = stride, .rounding = rounding});
}
Builder& Builder::AveragePool(const std::string& name, int kernel, int stride, Rounding rounding) {
  return Append(
      name,
      Pool{.kind = PoolKind::kAverage, .kernel = kernel, .stride = stride, .rounding = rounding});
}
Builder& Builder::AdaptivePool(const std::string& name, int out_size) {
  return Append(name, AdaptiveAveragePool{out_size});
}
Builder& Builder::Full(const std::string& name, FullyConnected fc) { return Append(name, fc); }
Builder& Builder::Drop(const std::string& name, DropoutForm form, double rate) {
  return Append(name, Dropout{rate, form});
}
Builder& Builder::Loss() { return Append("loss", SoftmaxCrossEntropy{}); }

Padding PaddingOf2012(int64_t size, int kernel, int stride) {
  const int64_t windows = 1 + (size - kernel + stride - 1) / stride;
  const int after = static_cast<int>((windows - 1) * stride + kernel - size);
  return {.top = 0, .left = 0, .bottom = after, .right = after};
}

Convolution GaussianConv(int out_channels, int kernel, int stride, Padding padding, int groups,
                         double std, double bias, double bias_lr) {
  return {.out_channels = out_channels,
          .kernel = kernel,
          .stride = stride,
          .padding = padding,
          .groups = groups,
          .weight = {{InitKind::kGaussian, std}},
          .bias = {{InitKind::kConstant, bias}, bias_lr, 0}};
}

FullyConnected GaussianFull(int out_features, double std, double bias, double bias_lr) {
  return {.out_features = out_features,
          .weight = {{InitKind::kGaussian, std}},
          .bias = {{InitKind::kConstant, bias}, bias_lr, 0}};
}

Convolution TorchConv(int out_channels, int kernel, int stride, Padding padding, int groups) {
  return {.out_channels = out_channels,
          .kernel = kernel,
          .stride = stride,
          .padding = padding,
          .groups = groups,
          .weight = {{InitKind::kFanInUniform}},
          .bias = {{InitKind::kFanInUniform}}};
}

FullyConnected TorchFull(int out_features) {
  return {.out_features = out_features,
          .weight = {{InitKind::kFanInUniform}},
          .bias = {{InitKind::kFanInUniform}}};
}

}  // namespace convoy::models
