#include <algorithm>
#include <cmath>
#include <vector>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

// Paper, section 3.3; the gradient is
//   dx[c] = dy[c] * s[c]^-beta - 2 A beta x[c] * sum over c' in W(c) of dy[c'] * y[c'] / s[c']
class OracleLrn final : public OracleLayer {
 public:
  OracleLrn(const Lrn& lrn, const Site& site)
      : lrn_(lrn),
        channels_(site.x[3]),
        places_(site.x.count() / site.x[3]),
        per_group_(site.x[3] / lrn.groups) {}

  void Forward(const StepContext&, const double* x, double* y) override {
    for (int64_t place = 0; place < places_; ++place) {
      const double* in = x + place * channels_;
      for (int64_t c = 0; c < channels_; ++c) {
        y[place * channels_ + c] = in[c] * std::pow(Scale(in, c), -lrn_.beta);
      }
    }
  }

  void Backward(const StepContext&, bool, const double* x, const double* y, const double* dy,
                double* dx) override {
    if (dx == nullptr) return;
    const double factor = 2 * lrn_.SquareSumFactor() * lrn_.beta;
    std::vector<double> scale(static_cast<size_t>(channels_));
    for (int64_t place = 0; place < places_; ++place) {
      const int64_t base = place * channels_;
      for (int64_t c = 0; c < channels_; ++c) {
        scale[static_cast<size_t>(c)] = Scale(x + base, c);
      }
      for (int64_t c = 0; c < channels_; ++c) {
        double sum = 0;
        for (int64_t j = First(c); j <= Last(c); ++j) {
          sum += dy[base + j] * y[base + j] / scale[static_cast<size_t>(j)];
        }
        dx[base + c] = dy[base + c] * std::pow(scale[static_cast<size_t>(c)], -lrn_.beta) -
                       factor * x[base + c] * sum;
      }
    }
  }

 private:
  // The window of channel c, cut at the edges of its group.
  int64_t First(int64_t c) const {
    return std::max(c - lrn_.size / 2, c / per_group_ * per_group_);
  }
  int64_t Last(int64_t c) const {
    return std::min(c + lrn_.size / 2, (c / per_group_ + 1) * per_group_ - 1);
  }

  double Scale(const double* x, int64_t c) const {
    double sum = 0;
    for (int64_t j = First(c); j <= Last(c); ++j) sum += x[j] * x[j];
    return lrn_.k + lrn_.SquareSumFactor() * sum;
  }

  Lrn lrn_;
  int64_t channels_, places_, per_group_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const Lrn& lrn, const Site& site) {
  return std::make_unique<OracleLrn>(lrn, site);
}

}  // namespace convoy::oracle
