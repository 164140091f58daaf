#include <algorithm>
#include <cmath>
#include <vector>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

class OracleBatchNorm final : public OracleLayer {
 public:
  OracleBatchNorm(const BatchNorm& norm, const Site& site)
      : norm_(norm),
        site_(site),
        rows_(site.x[0]),
        channels_(site.x.back()),
        places_(site.x.count() / site.x[0] / site.x.back()),
        mean_(static_cast<size_t>(channels_)),
        inverse_deviation_(static_cast<size_t>(channels_)) {}

  void Forward(const StepContext& context, const double* x, double* y) override {
    if (context.training) {
      UseBatchStatistics(context, x);
    } else {
      UseRunningStatistics();
    }
    ForEach([&](int64_t, size_t c, int64_t i) {
      y[i] = site_.weight[c] * (x[i] - mean_[c]) * inverse_deviation_[c] + site_.bias[c];
    });
  }

  // With x^ = (x - mean) / deviation and m values per channel:
  //   dx = weight / deviation * (dy - sum(dy) / m - x^ * sum(dy * x^) / m)
  // The sums run over the global batch, those for the weights over this rank's rows.
  void Backward(const StepContext& context, bool learns, const double* x, const double*,
                const double* dy, double* dx) override {
    const auto channels = static_cast<size_t>(channels_);
    std::vector<double> sums(2 * channels);
    ForEach([&](int64_t, size_t c, int64_t i) {
      sums[c] += dy[i];
      sums[channels + c] += dy[i] * (x[i] - mean_[c]) * inverse_deviation_[c];
    });
    if (learns) {
      const bool adds = context.adds_gradients;
      for (size_t c = 0; c < channels; ++c) {
        site_.bias_gradient[c] = sums[c] + (adds ? site_.bias_gradient[c] : 0);
        site_.weight_gradient[c] = sums[channels + c] + (adds ? site_.weight_gradient[c] : 0);
      }
    }
    if (dx == nullptr) return;
    Reduce(context, sums);
    const float* weights = context.rows.weights.As<float>();
    ForEach([&](int64_t n, size_t c, int64_t i) {
      const double normalised = (x[i] - mean_[c]) * inverse_deviation_[c];
      // A row that was not counted moves no statistic.
      const double through_statistics =
          weights[n] > 0 ? (sums[c] + normalised * sums[channels + c]) / count_ : 0;
      dx[i] = site_.weight[c] * inverse_deviation_[c] * (dy[i] - through_statistics);
    });
  }

 private:
  void UseRunningStatistics() {
    for (size_t c = 0; c < mean_.size(); ++c) {
      mean_[c] = site_.running_mean[c];
      inverse_deviation_[c] = 1 / std::sqrt(site_.running_variance[c] + norm_.epsilon);
    }
  }

  void UseBatchStatistics(const StepContext& context, const double* x) {
    const auto channels = static_cast<size_t>(channels_);
    const float* weights = context.rows.weights.As<float>();
    // Sum, sum of squares, and the number of values per channel.
    std::vector<double> sums(2 * channels + 1);
    ForEach([&](int64_t n, size_t c, int64_t i) {
      if (weights[n] <= 0) return;
      sums[c] += x[i];
      sums[channels + c] += x[i] * x[i];
      if (c == 0) sums[2 * channels] += 1;
    });
    Reduce(context, sums);
    count_ = std::max(1.0, sums[2 * channels]);
    if (sums[2 * channels] == 0) return UseRunningStatistics();  // every row was dropped
    for (size_t c = 0; c < channels; ++c) {
      mean_[c] = sums[c] / count_;
      const double variance = std::max(0.0, sums[channels + c] / count_ - mean_[c] * mean_[c]);
      inverse_deviation_[c] = 1 / std::sqrt(variance + norm_.epsilon);
      site_.running_mean[c] += norm_.momentum * (mean_[c] - site_.running_mean[c]);
      if (count_ <= 1) continue;  // one value has no variance
      const double unbiased = variance * count_ / (count_ - 1);
      site_.running_variance[c] += norm_.momentum * (unbiased - site_.running_variance[c]);
    }
  }

  static void Reduce(const StepContext& context, std::vector<double>& sums) {
    if (!context.reduce_statistics) return;
    context.reduce_statistics(
        *context.stream, {sums.data(), DType::kFloat64, Shape{static_cast<int64_t>(sums.size())}});
  }

  // visit(row, channel, index) over all elements.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    int64_t i = 0;
    for (int64_t n = 0; n < rows_; ++n) {
      for (int64_t place = 0; place < places_; ++place) {
        for (int64_t c = 0; c < channels_; ++c, ++i) visit(n, static_cast<size_t>(c), i);
      }
    }
  }

  BatchNorm norm_;
  Site site_;
  int64_t rows_, channels_, places_;
  std::vector<double> mean_, inverse_deviation_;
  double count_ = 0;  // values per channel in the global batch
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const BatchNorm& norm, const Site& site) {
  return std::make_unique<OracleBatchNorm>(norm, site);
}

}  // namespace convoy::oracle
