// layers/spec.h - a network as data: plain structs, no backend and no rank in them.
//
// A NetworkSpec is the uncut network. A parallel plan (trainer/plan) rewrites its list into the
// list of one rank; a backend (layers/layers.h) compiles a list for a device. Everything here is
// per sample: shapes have no batch dimension. Images are [H, W, C], flat features [F].
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor/shape.h"

namespace convoy {

// --- How a parameter starts and how fast it learns -----------------------------------------------

enum class InitKind {
  kConstant,      // value
  kGaussian,      // mean 0, standard deviation `value`
  kHe,            // Gaussian, standard deviation sqrt(2 / fan_in)
  kXavier,        // uniform in +-sqrt(6 / (fan_in + fan_out))
  kFanInUniform,  // uniform in +-1 / sqrt(fan_in), PyTorch's default for weights and biases
};

struct Init {
  InitKind kind = InitKind::kConstant;
  double value = 0;
  bool operator==(const Init&) const = default;
};

struct ParameterSpec {
  Init init;
  double lr_multiplier = 1;     // of the run's learning rate
  double decay_multiplier = 1;  // of the run's weight decay
  bool operator==(const ParameterSpec&) const = default;
};

// --- Layers --------------------------------------------------------------------------------------

struct Padding {
  int top = 0, left = 0, bottom = 0, right = 0;
  static Padding Same(int all) { return {all, all, all, all}; }
  bool operator==(const Padding&) const = default;
};

// y[h, w, o] = b[o] + sum over kh, kw, i of
//              x[h * stride - top + kh, w * stride - left + kw, i] * weight[o, kh, kw, i]
// Weights [out_channels, kernel, kernel, in_channels / groups]. Output size is rounded down.
struct Convolution {
  int out_channels = 0;
  int kernel = 1;
  int stride = 1;
  Padding padding;
  int groups = 1;
  bool has_bias = true;
  ParameterSpec weight, bias;
  bool operator==(const Convolution&) const = default;
};

// y = w x + b. Weights [out_features, in_features]; an image is read in H, W, C order.
struct FullyConnected {
  int out_features = 0;
  bool has_bias = true;
  ParameterSpec weight, bias;
  bool operator==(const FullyConnected&) const = default;
};

enum class ActivationKind { kRelu, kTanh, kSigmoid, kLeakyRelu, kElu };

// kLeakyRelu: x > 0 ? x : slope * x. kElu: x > 0 ? x : slope * (exp(x) - 1). The others ignore
// slope.
struct Activation {
  ActivationKind kind = ActivationKind::kRelu;
  double slope = 0.01;
  bool operator==(const Activation&) const = default;
};

// Whether alpha multiplies the sum of squares as it stands (the paper's text) or is divided by the
// window's size first (the 2012 code, Caffe, cuDNN, oneDNN, PyTorch).
enum class LrnAlpha { kAsIs, kDividedBySize };

// Local response normalisation across channels (paper, section 3.3):
//   s[c] = k + A * sum over c' in W(c) of x[c']^2,   y[c] = x[c] * s[c]^-beta
// W(c): `size` (odd) channels around c, cut at the edges of the group that c lies in. `groups`
// equal parts of the channels are normalised apart: two, if the paper's towers do not see each
// other.
struct Lrn {
  int size = 5;
  double alpha = 1e-4;
  LrnAlpha alpha_use = LrnAlpha::kAsIs;
  double beta = 0.75;
  double k = 2;
  int groups = 1;
  bool operator==(const Lrn&) const = default;

  // Returns the A of the formula.
  double SquareSumFactor() const { return alpha_use == LrnAlpha::kAsIs ? alpha : alpha / size; }
};

// Batch normalisation per channel, over all rows (of the global batch) and places:
//   y = weight * (x - mean) / sqrt(variance + epsilon) + bias
// running = (1 - momentum) * running + momentum * batch value, the variance with Bessel's
// correction; evaluation uses the running values. Rows of weight 0 are not counted.
struct BatchNorm {
  double epsilon = 1e-5;
  double momentum = 0.1;
  ParameterSpec weight{{InitKind::kConstant, 1}}, bias;
  bool operator==(const BatchNorm&) const = default;
};

enum class PoolKind { kMax, kAverage };
enum class Rounding { kFloor, kCeil };

// Pooling over kernel x kernel windows. Places in the padding are never the maximum. An average
// divides by the places of the window that lie in the padded image (`kIncludePadding`) or in the
// image itself (`kExcludePadding`); what a kCeil window hangs over the padded image never counts.
enum class AverageDivisor { kIncludePadding, kExcludePadding };

struct Pool {
  PoolKind kind = PoolKind::kMax;
  int kernel = 3;
  int stride = 2;
  Padding padding;
  Rounding rounding = Rounding::kFloor;
  AverageDivisor divisor = AverageDivisor::kIncludePadding;
  bool operator==(const Pool&) const = default;
};

// Averages so that the output is out_size x out_size, whatever the input (PyTorch's windows: from
// floor(i * in / out) to ceil((i + 1) * in / out)).
struct AdaptiveAveragePool {
  int out_size = 1;
  bool operator==(const AdaptiveAveragePool&) const = default;
};

enum class DropoutForm {
  k2012,      // training: x * mask; evaluation: x * (1 - rate)
  kInverted,  // training: x * mask / (1 - rate); evaluation: x
};

// Each value is dropped with probability `rate`. The mask is a function of (seed, layer, epoch,
// global position of the sample, element of the uncut tensor).
struct Dropout {
  double rate = 0.5;
  DropoutForm form = DropoutForm::k2012;
  bool operator==(const Dropout&) const = default;
};

// The last layer: probabilities p = softmax(x), and per row
//   loss = -sum over c of t[c] * log p[c]
//   t = (1 - smoothing) * onehot(label) + smoothing / classes
struct SoftmaxCrossEntropy {
  double label_smoothing = 0;
  bool operator==(const SoftmaxCrossEntropy&) const = default;
};

using Layer = std::variant<Convolution, FullyConnected, Activation, Lrn, BatchNorm, Pool,
                           AdaptiveAveragePool, Dropout, SoftmaxCrossEntropy>;

struct LayerSpec {
  std::string name;
  Layer layer;
  bool operator==(const LayerSpec&) const = default;
};

// The uncut network. The last layer is a SoftmaxCrossEntropy.
struct NetworkSpec {
  std::string name;
  Shape input;  // [H, W, C]
  int classes = 0;
  std::vector<LayerSpec> layers;
};

// Returns "conv", "fc", "relu", "lrn", ... as the summary prints it.
std::string KindOf(const Layer& layer);

}  // namespace convoy
