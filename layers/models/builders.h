// layers/models/builders.h - the vocabulary in which the model files are written.
#pragma once

#include <string>
#include <vector>

#include "layers/spec.h"

namespace convoy::models {

// What a model file returns before options are applied.
struct Defaults {
  int input = 224;  // height and width
  int channels = 3;
  int classes = 1000;
};

// Builds a list by appending. Sizes that follow from the input (padding by the 2012 rule) are known
// because the builder keeps the current shape.
class Builder {
 public:
  explicit Builder(const Shape& input) : shape_(input) {}

  Builder& Conv(const std::string& name, Convolution conv);
  Builder& Relu(const std::string& name);
  Builder& Activate(const std::string& name, ActivationKind kind);
  Builder& Normalise(const std::string& name, Lrn lrn);
  Builder& BatchNormalise(const std::string& name);
  Builder& MaxPool(const std::string& name, int kernel, int stride,
                   Rounding rounding = Rounding::kFloor);
  Builder& AveragePool(const std::string& name, int kernel, int stride,
                       Rounding rounding = Rounding::kFloor);
  Builder& AdaptivePool(const std::string& name, int out_size);
  Builder& Full(const std::string& name, FullyConnected fc);
  Builder& Drop(const std::string& name, DropoutForm form, double rate = 0.5);
  Builder& Loss();

  const Shape& shape() const { return shape_; }
  std::vector<LayerSpec> Take() { return std::move(layers_); }

 private:
  Builder& Append(const std::string& name, const Layer& layer);
  Shape shape_;
  std::vector<LayerSpec> layers_;
};

// No padding before; after, what makes the size 1 + ceil((size - kernel) / stride), as the 2012
// code computes it.
Padding PaddingOf2012(int64_t size, int kernel, int stride);

// weight ~ N(0, std^2) with decay, bias constant without: the 2012 code's way, biases learning at
// `bias_lr` times the rate of the weights.
Convolution GaussianConv(int out_channels, int kernel, int stride, Padding padding, int groups,
                         double std, double bias, double bias_lr = 2);
FullyConnected GaussianFull(int out_features, double std, double bias, double bias_lr = 2);
// PyTorch's default start, all rates and decays 1.
Convolution TorchConv(int out_channels, int kernel, int stride, Padding padding, int groups = 1);
FullyConnected TorchFull(int out_features);

// The files of this folder, one function each.
std::vector<LayerSpec> AlexNet2012(const Shape& input, int classes);
std::vector<LayerSpec> AlexNetHalf(const Shape& input, int classes);
std::vector<LayerSpec> AlexNetGrouped(const Shape& input, int classes);
std::vector<LayerSpec> AlexNetOwt(const Shape& input, int classes);
std::vector<LayerSpec> AlexNetTorchvision(const Shape& input, int classes);
std::vector<LayerSpec> AlexNetBn(const Shape& input, int classes);
std::vector<LayerSpec> AlexNetFmnist(const Shape& input, int classes);
std::vector<LayerSpec> LeNet5(const Shape& input, int classes);
std::vector<LayerSpec> Cifar10Quick(const Shape& input, int classes);

}  // namespace convoy::models
