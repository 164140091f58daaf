#include <algorithm>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

class OracleFullyConnected final : public OracleLayer {
 public:
  explicit OracleFullyConnected(const Site& site)
      : site_(site), rows_(site.x[0]), in_(site.x.DropFirst().count()), out_(site.y[1]) {}

  void Forward(const StepContext&, const double* x, double* y) override {
#pragma omp parallel for num_threads(site_.threads) schedule(static)
    for (int64_t o = 0; o < out_; ++o) {
      const double* w = site_.weight + o * in_;
      for (int64_t n = 0; n < rows_; ++n) {
        double dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < in_; ++i) dot += w[i] * x[n * in_ + i];
        y[n * out_ + o] = dot + (site_.bias ? site_.bias[o] : 0);
      }
    }
  }

  void Backward(const StepContext& context, bool learns, const double* x, const double*,
                const double* dy, double* dx) override {
    if (learns) {
#pragma omp parallel for num_threads(site_.threads) schedule(static)
      for (int64_t o = 0; o < out_; ++o) {
        double* dw = site_.weight_gradient + o * in_;
        if (!context.adds_gradients) std::fill_n(dw, in_, 0.0);
        double bias_sum = 0;
        for (int64_t n = 0; n < rows_; ++n) {
          const double g = dy[n * out_ + o];
          bias_sum += g;
          for (int64_t i = 0; i < in_; ++i) dw[i] += g * x[n * in_ + i];
        }
        if (site_.bias_gradient) {
          site_.bias_gradient[o] = bias_sum + (context.adds_gradients ? site_.bias_gradient[o] : 0);
        }
      }
    }
    if (dx != nullptr) {
#pragma omp parallel for num_threads(site_.threads) schedule(static)
      for (int64_t n = 0; n < rows_; ++n) {
        std::fill_n(dx + n * in_, in_, 0.0);
        for (int64_t o = 0; o < out_; ++o) {
          const double g = dy[n * out_ + o];
          const double* w = site_.weight + o * in_;
          for (int64_t i = 0; i < in_; ++i) dx[n * in_ + i] += g * w[i];
        }
      }
    }
  }

 private:
  Site site_;
  int64_t rows_, in_, out_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const FullyConnected&, const Site& site) {
  return std::make_unique<OracleFullyConnected>(site);
}

}  // namespace convoy::oracle
