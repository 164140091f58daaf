// layers/oracle/layer.h - the inside of the oracle: one class per kind of layer, plain double
// loops, written from the formulas in layers/spec.h and from nothing else.
#pragma once

#include <memory>

#include "layers/network.h"

namespace convoy::oracle {

// Everything a layer knows of its place. Pointers are into the arenas; null if there is none.
struct Site {
  SegmentSpec::Item item;
  Shape x, y;  // with the batch in front
  double* weight = nullptr;
  double* bias = nullptr;
  double* weight_gradient = nullptr;
  double* bias_gradient = nullptr;
  double* running_mean = nullptr;
  double* running_variance = nullptr;
  int threads = 1;
};

// Tensors are dense, shaped as in the site.
class OracleLayer {
 public:
  virtual ~OracleLayer() = default;
  virtual void Forward(const StepContext& context, const double* x, double* y) = 0;
  // dx may be null (not wanted). Weight gradients are written if `learns`; they are added to what
  // is there if context.adds_gradients.
  virtual void Backward(const StepContext& context, bool learns, const double* x, const double* y,
                        const double* dy, double* dx) = 0;
  // Network::loss_sums; only the loss layer answers.
  virtual Tensor loss_sums() { return {}; }
};

std::unique_ptr<OracleLayer> Make(const Convolution& conv, const Site& site);
std::unique_ptr<OracleLayer> Make(const FullyConnected& fc, const Site& site);
std::unique_ptr<OracleLayer> Make(const Activation& activation, const Site& site);
std::unique_ptr<OracleLayer> Make(const Lrn& lrn, const Site& site);
std::unique_ptr<OracleLayer> Make(const BatchNorm& norm, const Site& site);
std::unique_ptr<OracleLayer> Make(const Pool& pool, const Site& site);
std::unique_ptr<OracleLayer> Make(const AdaptiveAveragePool& pool, const Site& site);
std::unique_ptr<OracleLayer> Make(const Dropout& dropout, const Site& site);
std::unique_ptr<OracleLayer> Make(const SoftmaxCrossEntropy& loss, const Site& site);

}  // namespace convoy::oracle
