// Softmax and cross-entropy, in fp32 whatever the network's type; sums over classes and rows in
// fp64, in an order that does not depend on the threads.
#include <algorithm>
#include <cmath>
#include <vector>

#include "layers/cpu/numbers.h"
#include "layers/cpu/operation.h"
#include "layers/cpu/vector_math.h"

namespace convoy::cpu {
namespace {

// TLogit: type of x; TGradient: type of dx.
template <typename TLogit, typename TGradient>
class SoftmaxLossOperation final : public Operation {
 public:
  SoftmaxLossOperation(const SoftmaxCrossEntropy& loss, const Wiring& wiring)
      : wiring_(wiring),
        smoothing_(loss.label_smoothing),
        rows_(wiring.x.shape[0]),
        classes_(wiring.x.shape[1]),
        row_sums_(static_cast<size_t>(rows_)) {}

  void Forward(const StepContext& context) override {
    const int32_t* labels = context.rows.labels.As<int32_t>();
    const float* weights = context.rows.weights.As<float>();
    const TLogit* x = wiring_.x.As<TLogit>();
    float* y = wiring_.y.As<float>();
#pragma omp parallel for num_threads(wiring_.threads) schedule(static)
    for (int64_t n = 0; n < rows_; ++n) {
      const TLogit* logits = x + n * classes_;
      const double log_sum = Softmax(logits, y + n * classes_);
      row_sums_[static_cast<size_t>(n)] = weights[n] > 0 && labels[n] >= 0
                                              ? SumsOf(logits, log_sum, labels[n], weights[n])
                                              : LossSums{};
    }
    sums_ = {};
    for (const LossSums& row : row_sums_) sums_ += row;
  }

  // dx = loss_scale * weight * (p - t)
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    const int32_t* labels = context.rows.labels.As<int32_t>();
    const float* weights = context.rows.weights.As<float>();
    const float* y = wiring_.y.As<float>();
    TGradient* dx = wiring_.dx.As<TGradient>();
    const auto share = static_cast<float>(smoothing_ / static_cast<double>(classes_));
    const auto at_label = static_cast<float>(1 - smoothing_);
#pragma omp parallel for num_threads(wiring_.threads) schedule(static)
    for (int64_t n = 0; n < rows_; ++n) {
      const auto scale = static_cast<float>(context.loss_scale * weights[n]);
      const float* probabilities = y + n * classes_;
      TGradient* gradients = dx + n * classes_;
      const int64_t label = labels[n];
#pragma omp simd
      for (int64_t c = 0; c < classes_; ++c) {
        const float target = c == label ? share + at_label : share;
        Store(scale * (probabilities[c] - target), gradients + c);
      }
    }
  }

  Tensor loss_sums() override { return ViewOf(sums_); }

 private:
  // Writes the probabilities of one row; returns the logarithm of the sum of e^logit.
  double Softmax(const TLogit* logits, float* probabilities) const {
    float largest = Load(logits);
#pragma omp simd reduction(max : largest)
    for (int64_t c = 0; c < classes_; ++c) largest = std::max(largest, Load(logits + c));
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < classes_; ++c) {
      probabilities[c] = Exp(Load(logits + c) - largest);
      sum += static_cast<double>(probabilities[c]);
    }
    const auto factor = static_cast<float>(1 / sum);
#pragma omp simd
    for (int64_t c = 0; c < classes_; ++c) probabilities[c] *= factor;
    return static_cast<double>(largest) + std::log(sum);
  }

  LossSums SumsOf(const TLogit* logits, double log_sum, int32_t label, float weight) const {
    const float label_logit = Load(logits + label);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < classes_; ++c) sum += static_cast<double>(Load(logits + c));
    const double mean_log_probability = sum / static_cast<double>(classes_) - log_sum;
    const double loss = -(1 - smoothing_) * (static_cast<double>(label_logit) - log_sum) -
                        smoothing_ * mean_log_probability;
    // Classes before the label in the order of falling probability; ties by class number.
    int64_t before = 0;
    for (int64_t c = 0; c < classes_; ++c) {
      const float logit = Load(logits + c);
      before += logit > label_logit || (logit == label_logit && c < label) ? 1 : 0;
    }
    const auto row_weight = static_cast<double>(weight);
    return {.weight = row_weight,
            .loss = row_weight * loss,
            .top1 = before < 1 ? row_weight : 0,
            .top5 = before < 5 ? row_weight : 0};
  }

  Wiring wiring_;
  double smoothing_;
  int64_t rows_, classes_;
  std::vector<LossSums> row_sums_;
  LossSums sums_;
};

template <typename TGradient>
using OnFloatLogits = SoftmaxLossOperation<float, TGradient>;
template <typename TGradient>
using OnBFloat16Logits = SoftmaxLossOperation<BFloat16, TGradient>;

}  // namespace

std::unique_ptr<Operation> MakeOperation(const SoftmaxCrossEntropy& loss, const Wiring& wiring,
                                         OneDnn&) {
  const DType gradient = wiring.dx ? wiring.dx.dtype : wiring.x.dtype;
  return wiring.x.dtype == DType::kBFloat16 ? MakeForType<OnBFloat16Logits>(gradient, loss, wiring)
                                            : MakeForType<OnFloatLogits>(gradient, loss, wiring);
}

}  // namespace convoy::cpu
