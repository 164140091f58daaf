#include <cmath>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

class OracleActivation final : public OracleLayer {
 public:
  OracleActivation(const Activation& activation, const Site& site)
      : activation_(activation), count_(site.x.count()) {}

  void Forward(const StepContext&, const double* x, double* y) override {
    for (int64_t i = 0; i < count_; ++i) y[i] = Value(x[i]);
  }

  void Backward(const StepContext&, bool, const double* x, const double* y, const double* dy,
                double* dx) override {
    if (dx == nullptr) return;
    for (int64_t i = 0; i < count_; ++i) dx[i] = dy[i] * Derivative(x[i], y[i]);
  }

 private:
  double Value(double x) const {
    switch (activation_.kind) {
      case ActivationKind::kRelu:
        return x > 0 ? x : 0;
      case ActivationKind::kTanh:
        return std::tanh(x);
      case ActivationKind::kSigmoid:
        return 1 / (1 + std::exp(-x));
      case ActivationKind::kLeakyRelu:
        return x > 0 ? x : activation_.slope * x;
      case ActivationKind::kElu:
        return x > 0 ? x : activation_.slope * std::expm1(x);
    }
    return 0;
  }

  double Derivative(double x, double y) const {
    switch (activation_.kind) {
      case ActivationKind::kRelu:
        return x > 0 ? 1 : 0;
      case ActivationKind::kTanh:
        return 1 - y * y;
      case ActivationKind::kSigmoid:
        return y * (1 - y);
      case ActivationKind::kLeakyRelu:
        return x > 0 ? 1 : activation_.slope;
      case ActivationKind::kElu:
        return x > 0 ? 1 : y + activation_.slope;
    }
    return 0;
  }

  Activation activation_;
  int64_t count_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const Activation& activation, const Site& site) {
  return std::make_unique<OracleActivation>(activation, site);
}

}  // namespace convoy::oracle
