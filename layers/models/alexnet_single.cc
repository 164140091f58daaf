// AlexNets on one device, as later programs wrote them.
#include "layers/models/builders.h"

namespace convoy::models {
namespace {

// Returns the single column of "One weird trick" (arXiv 1404.5997): 64/192/384/256/256.
Builder& Column(Builder& net, const std::vector<Convolution>& convs, bool with_lrn) {
  const Lrn lrn{.size = 5, .alpha = 2e-5, .beta = 0.75, .k = 2};
  for (size_t i = 0; i < convs.size(); ++i) {
    const std::string n = std::to_string(i + 1);
    net.Conv("conv" + n, convs[i]).Relu("relu" + n);
    if (with_lrn && i < 2) net.Normalise("norm" + n, lrn);
    if (i < 2 || i == 4) net.MaxPool("pool" + n, 3, 2);
  }
  return net;
}

}  // namespace

// Returns the model of "One weird trick", trained with the settings of the 2012 code.
std::vector<LayerSpec> AlexNetOwt(const Shape& input, int classes) {
  Builder net(input);
  Column(net,
         {GaussianConv(64, 11, 4, PaddingOf2012(input[0], 11, 4), 1, 0.01, 0),
          GaussianConv(192, 5, 1, Padding::Same(2), 1, 0.01, 1),
          GaussianConv(384, 3, 1, Padding::Same(1), 1, 0.03, 0),
          GaussianConv(256, 3, 1, Padding::Same(1), 1, 0.03, 1),
          GaussianConv(256, 3, 1, Padding::Same(1), 1, 0.03, 1)},
         true);
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

// torchvision's alexnet: the same column without LRN, dropout before fc6 and fc7.
std::vector<LayerSpec> AlexNetTorchvision(const Shape& input, int classes) {
  Builder net(input);
  Column(net,
         {TorchConv(64, 11, 4, Padding::Same(2)), TorchConv(192, 5, 1, Padding::Same(2)),
          TorchConv(384, 3, 1, Padding::Same(1)), TorchConv(256, 3, 1, Padding::Same(1)),
          TorchConv(256, 3, 1, Padding::Same(1))},
         false);
  return net.AdaptivePool("pool6", 6)
      .Drop("drop5", DropoutForm::kInverted)
      .Full("fc6", TorchFull(4096))
      .Relu("relu6")
      .Drop("drop6", DropoutForm::kInverted)
      .Full("fc7", TorchFull(4096))
      .Relu("relu7")
      .Full("fc8", TorchFull(classes))
      .Loss()
      .Take();
}

// Returns the paper's sizes on one device as single-device programs write them: groups of 2, but
// LRN windows that reach across the groups; padding 2 all around conv1; dropout before fc6 and fc7.
std::vector<LayerSpec> AlexNetGrouped(const Shape& input, int classes) {
  const Lrn lrn{.size = 5, .alpha = 1e-4, .alpha_use = LrnAlpha::kDividedBySize, .k = 2};
  return Builder(input)
      .Conv("conv1", TorchConv(96, 11, 4, Padding::Same(2)))
      .Relu("relu1")
      .Normalise("norm1", lrn)
      .MaxPool("pool1", 3, 2)
      .Conv("conv2", TorchConv(256, 5, 1, Padding::Same(2), 2))
      .Relu("relu2")
      .Normalise("norm2", lrn)
      .MaxPool("pool2", 3, 2)
      .Conv("conv3", TorchConv(384, 3, 1, Padding::Same(1)))
      .Relu("relu3")
      .Conv("conv4", TorchConv(384, 3, 1, Padding::Same(1), 2))
      .Relu("relu4")
      .Conv("conv5", TorchConv(256, 3, 1, Padding::Same(1), 2))
      .Relu("relu5")
      .MaxPool("pool5", 3, 2)
      .AdaptivePool("pool6", 6)
      .Drop("drop5", DropoutForm::kInverted)
      .Full("fc6", TorchFull(4096))
      .Relu("relu6")
      .Drop("drop6", DropoutForm::kInverted)
      .Full("fc7", TorchFull(4096))
      .Relu("relu7")
      .Full("fc8", TorchFull(classes))
      .Loss()
      .Take();
}

// AlexNet on Fashion-MNIST as textbooks have it: one input channel, no groups, no LRN, no padding
// of conv1, so that the last pooling leaves 5 x 5.
std::vector<LayerSpec> AlexNetFmnist(const Shape& input, int classes) {
  return Builder(input)
      .Conv("conv1", TorchConv(96, 11, 4, Padding{}))
      .Relu("relu1")
      .MaxPool("pool1", 3, 2)
      .Conv("conv2", TorchConv(256, 5, 1, Padding::Same(2)))
      .Relu("relu2")
      .MaxPool("pool2", 3, 2)
      .Conv("conv3", TorchConv(384, 3, 1, Padding::Same(1)))
      .Relu("relu3")
      .Conv("conv4", TorchConv(384, 3, 1, Padding::Same(1)))
      .Relu("relu4")
      .Conv("conv5", TorchConv(256, 3, 1, Padding::Same(1)))
      .Relu("relu5")
      .MaxPool("pool5", 3, 2)
      .Full("fc6", TorchFull(4096))
      .Relu("relu6")
      .Drop("drop6", DropoutForm::kInverted)
      .Full("fc7", TorchFull(4096))
      .Relu("relu7")
      .Drop("drop7", DropoutForm::kInverted)
      .Full("fc8", TorchFull(classes))
      .Loss()
      .Take();
}

}  // namespace convoy::models
