#include <algorithm>
#include <cmath>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

class OracleSoftmaxLoss final : public OracleLayer {
 public:
  OracleSoftmaxLoss(const SoftmaxCrossEntropy& loss, const Site& site)
      : smoothing_(loss.label_smoothing), rows_(site.x[0]), classes_(site.x[1]) {}

  void Forward(const StepContext& context, const double* x, double* y) override {
    const int32_t* labels = context.rows.labels.As<int32_t>();
    const float* weights = context.rows.weights.As<float>();
    sums_ = {};
    for (int64_t n = 0; n < rows_; ++n) {
      const double* logits = x + n * classes_;
      double* probabilities = y + n * classes_;
      const double largest = *std::max_element(logits, logits + classes_);
      double sum = 0;
      for (int64_t c = 0; c < classes_; ++c) sum += std::exp(logits[c] - largest);
      const double log_sum = largest + std::log(sum);
      for (int64_t c = 0; c < classes_; ++c) probabilities[c] = std::exp(logits[c] - log_sum);
      if (weights[n] <= 0 || labels[n] < 0) continue;

      double mean_log_probability = 0;
      for (int64_t c = 0; c < classes_; ++c) mean_log_probability += logits[c] - log_sum;
      mean_log_probability /= static_cast<double>(classes_);
      const int32_t label = labels[n];
      const double loss =
          -(1 - smoothing_) * (logits[label] - log_sum) - smoothing_ * mean_log_probability;
      // Classes before the label in the order of falling probability; ties by class number.
      int64_t before = 0;
      for (int64_t c = 0; c < classes_; ++c) {
        before += logits[c] > logits[label] || (logits[c] == logits[label] && c < label) ? 1 : 0;
      }
      sums_ += {.weight = weights[n],
                .loss = weights[n] * loss,
                .top1 = before < 1 ? weights[n] : 0,
                .top5 = before < 5 ? weights[n] : 0};
    }
  }

  // dx = loss_scale * weight * (p - t)
  void Backward(const StepContext& context, bool, const double*, const double* y, const double*,
                double* dx) override {
    if (dx == nullptr) return;
    const int32_t* labels = context.rows.labels.As<int32_t>();
    const float* weights = context.rows.weights.As<float>();
    const double share = smoothing_ / static_cast<double>(classes_);
    for (int64_t n = 0; n < rows_; ++n) {
      const double scale = context.loss_scale * weights[n];
      for (int64_t c = 0; c < classes_; ++c) {
        const double target = share + (c == labels[n] ? 1 - smoothing_ : 0);
        dx[n * classes_ + c] = scale * (y[n * classes_ + c] - target);
      }
    }
  }

  Tensor loss_sums() override { return ViewOf(sums_); }

 private:
  double smoothing_;
  int64_t rows_, classes_;
  LossSums sums_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const SoftmaxCrossEntropy& loss, const Site& site) {
  return std::make_unique<OracleSoftmaxLoss>(loss, site);
}

}  // namespace convoy::oracle
