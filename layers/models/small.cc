// Small networks for small images.
#include "layers/models/builders.h"

namespace convoy::models {

// LeNet-5 (LeCun, Bottou, Bengio, Haffner, 1998) with sigmoids and average pooling, 28 x 28 padded
// by 2 to the 32 x 32 of the paper, and a softmax in place of its radial basis functions.
std::vector<LayerSpec> LeNet5(const Shape& input, int classes) {
  const auto conv = [](int out, int padding) {
    return Convolution{.out_channels = out,
                       .kernel = 5,
                       .padding = Padding::Same(padding),
                       .weight = {{InitKind::kXavier}},
                       .bias = {{InitKind::kConstant, 0}, 1, 0}};
  };
  const auto full = [](int out) {
    return FullyConnected{.out_features = out,
                          .weight = {{InitKind::kXavier}},
                          .bias = {{InitKind::kConstant, 0}, 1, 0}};
  };
  return Builder(input)
      .Conv("conv1", conv(6, 2))
      .Activate("sigmoid1", ActivationKind::kSigmoid)
      .AveragePool("pool1", 2, 2)
      .Conv("conv2", conv(16, 0))
      .Activate("sigmoid2", ActivationKind::kSigmoid)
      .AveragePool("pool2", 2, 2)
      .Full("fc3", full(120))
      .Activate("sigmoid3", ActivationKind::kSigmoid)
      .Full("fc4", full(84))
      .Activate("sigmoid4", ActivationKind::kSigmoid)
      .Full("fc5", full(classes))
      .Loss()
      .Take();
}

// Caffe's three-convolution net for CIFAR-10 (examples/cifar10, "quick").
std::vector<LayerSpec> Cifar10Quick(const Shape& input, int classes) {
  return Builder(input)
      .Conv("conv1", GaussianConv(32, 5, 1, Padding::Same(2), 1, 0.0001, 0))
      .MaxPool("pool1", 3, 2, Rounding::kCeil)
      .Relu("relu1")
      .Conv("conv2", GaussianConv(32, 5, 1, Padding::Same(2), 1, 0.01, 0))
      .Relu("relu2")
      .AveragePool("pool2", 3, 2, Rounding::kCeil)
      .Conv("conv3", GaussianConv(64, 5, 1, Padding::Same(2), 1, 0.01, 0))
      .Relu("relu3")
      .AveragePool("pool3", 3, 2, Rounding::kCeil)
      .Full("fc4", GaussianFull(64, 0.1, 0))
      .Full("fc5", GaussianFull(classes, 0.1, 0))
      .Loss()
      .Take();
}

}  // namespace convoy::models
