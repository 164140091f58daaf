// The networks of the paper (Krizhevsky, Sutskever, Hinton, NIPS 2012) as the 2012 code ran them:
// standard deviation 0.03 in conv3 to conv5, biases of 1, biases learning twice as fast.
#include "layers/models/builders.h"

namespace convoy::models {
namespace {

constexpr Lrn kLrnInTower{.size = 5, .alpha = 2e-5, .beta = 0.75, .k = 2, .groups = 2};

// Returns the part that all of them share: from the last pooling to the loss.
std::vector<LayerSpec> Classifier(Builder& net, int classes) {
  return net.Full("fc6", GaussianFull(4096, 0.01, 1))
      .Relu("relu6")
      .Drop("drop6", DropoutForm::k2012)
      .Full("fc7", GaussianFull(4096, 0.01, 1))
      .Relu("relu7")
      .Drop("drop7", DropoutForm::k2012)
      .Full("fc8", GaussianFull(classes, 0.01, 0))
      .Loss()
      .Take();
}

}  // namespace

// Two towers: groups of 2 if a tower reads its own maps only (section 3.5, figure 2).
std::vector<LayerSpec> AlexNet2012(const Shape& input, int classes) {
  Builder net(input);
  net.Conv("conv1", GaussianConv(96, 11, 4, PaddingOf2012(input[0], 11, 4), 1, 0.01, 0))
      .Relu("relu1")
      .Normalise("norm1", kLrnInTower)
      .MaxPool("pool1", 3, 2)
      .Conv("conv2", GaussianConv(256, 5, 1, Padding::Same(2), 2, 0.01, 1))
      .Relu("relu2")
      .Normalise("norm2", kLrnInTower)
      .MaxPool("pool2", 3, 2)
      .Conv("conv3", GaussianConv(384, 3, 1, Padding::Same(1), 1, 0.03, 0))
      .Relu("relu3")
      .Conv("conv4", GaussianConv(384, 3, 1, Padding::Same(1), 2, 0.03, 1))
      .Relu("relu4")
      .Conv("conv5", GaussianConv(256, 3, 1, Padding::Same(1), 2, 0.03, 1))
      .Relu("relu5")
      .MaxPool("pool5", 3, 2);
  return Classifier(net, classes);
}

// Returns the net that the paper compares with on one GPU: half the kernels, the last convolution
// and the fully connected layers as they were (section 3.2).
std::vector<LayerSpec> AlexNetHalf(const Shape& input, int classes) {
  Lrn lrn = kLrnInTower;
  lrn.groups = 1;
  Builder net(input);
  net.Conv("conv1", GaussianConv(48, 11, 4, PaddingOf2012(input[0], 11, 4), 1, 0.01, 0))
      .Relu("relu1")
      .Normalise("norm1", lrn)
      .MaxPool("pool1", 3, 2)
      .Conv("conv2", GaussianConv(128, 5, 1, Padding::Same(2), 1, 0.01, 1))
      .Relu("relu2")
      .Normalise("norm2", lrn)
      .MaxPool("pool2", 3, 2)
      .Conv("conv3", GaussianConv(192, 3, 1, Padding::Same(1), 1, 0.03, 0))
      .Relu("relu3")
      .Conv("conv4", GaussianConv(192, 3, 1, Padding::Same(1), 1, 0.03, 1))
      .Relu("relu4")
      .Conv("conv5", GaussianConv(256, 3, 1, Padding::Same(1), 1, 0.03, 1))
      .Relu("relu5")
      .MaxPool("pool5", 3, 2);
  return Classifier(net, classes);
}

// Returns the two-tower network with batch norm in place of LRN, after every layer with weights but
// the last. Batch norm makes the biases before it idle, so there are none.
std::vector<LayerSpec> AlexNetBn(const Shape& input, int classes) {
  const auto conv = [](int out, int kernel, int stride, Padding padding, int groups) {
    return Convolution{.out_channels = out,
                       .kernel = kernel,
                       .stride = stride,
                       .padding = padding,
                       .groups = groups,
                       .has_bias = false,
                       .weight = {{InitKind::kHe}}};
  };
  const FullyConnected hidden{.out_features = 4096, .has_bias = false, .weight = {{InitKind::kHe}}};
  return Builder(input)
      .Conv("conv1", conv(96, 11, 4, PaddingOf2012(input[0], 11, 4), 1))
      .BatchNormalise("norm1")
      .Relu("relu1")
      .MaxPool("pool1", 3, 2)
      .Conv("conv2", conv(256, 5, 1, Padding::Same(2), 2))
      .BatchNormalise("norm2")
      .Relu("relu2")
      .MaxPool("pool2", 3, 2)
      .Conv("conv3", conv(384, 3, 1, Padding::Same(1), 1))
      .BatchNormalise("norm3")
      .Relu("relu3")
      .Conv("conv4", conv(384, 3, 1, Padding::Same(1), 2))
      .BatchNormalise("norm4")
      .Relu("relu4")
      .Conv("conv5", conv(256, 3, 1, Padding::Same(1), 2))
      .BatchNormalise("norm5")
      .Relu("relu5")
      .MaxPool("pool5", 3, 2)
      .Full("fc6", hidden)
      .BatchNormalise("norm6")
      .Relu("relu6")
      .Drop("drop6", DropoutForm::kInverted)
      .Full("fc7", hidden)
      .BatchNormalise("norm7")
      .Relu("relu7")
      .Drop("drop7", DropoutForm::kInverted)
      .Full("fc8", GaussianFull(classes, 0.01, 0, 1))
      .Loss()
      .Take();
}

}  // namespace convoy::models
