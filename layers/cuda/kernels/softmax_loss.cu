// Softmax and cross-entropy, in fp32 whatever the network's type; sums over classes and rows in
// fp64.
//   forward   bytes per logit: 2 or 4 read (again from the cache, twice), 4 written and read from
//             the cache and written; some 15 flops, most of them the exponential
//   backward  bytes per logit: 4 read, 2 or 4 written; 2 flops
#include <cmath>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

// A group per row. Writes the probabilities, and the row's sums times its weight.
template <typename T>
struct SoftmaxKernel {
  const T* x;
  float* y;
  const int32_t* labels;
  const float* weights;
  LossSums* row_sums;
  int32_t classes;
  double smoothing;

  CONVOY_DEVICE void operator()(int32_t n, Group& group) const {
    const T* const logits = x + int64_t{n} * classes;
    float* const probabilities = y + int64_t{n} * classes;
    const bool counts = weights[n] > 0 && labels[n] >= 0;
    const int32_t label = counts ? labels[n] : 0;
    const float label_logit = ToFloat(logits[label]);

    float largest = label_logit;
    double sum = 0;
    // Classes before the label in the order of falling probability; ties by class number.
    int32_t before = 0;
    for (int32_t c = group.rank(); c < classes; c += group.size()) {
      const float logit = ToFloat(logits[c]);
      largest = logit > largest ? logit : largest;
      sum += static_cast<double>(logit);
      before += logit > label_logit || (logit == label_logit && c < label) ? 1 : 0;
    }
    largest = group.Max(largest);
    sum = group.Sum(sum);
    const double all_before = group.Sum(before);

    double exponentials = 0;
    for (int32_t c = group.rank(); c < classes; c += group.size()) {
      probabilities[c] = std::exp(ToFloat(logits[c]) - largest);
      exponentials += static_cast<double>(probabilities[c]);
    }
    exponentials = group.Sum(exponentials);
    const auto factor = static_cast<float>(1 / exponentials);
    for (int32_t c = group.rank(); c < classes; c += group.size()) probabilities[c] *= factor;

    if (group.rank() != 0) return;
    const double log_sum = static_cast<double>(largest) + std::log(exponentials);
    const double loss = -(1 - smoothing) * (static_cast<double>(label_logit) - log_sum) -
                        smoothing * (sum / classes - log_sum);
    const double weight = counts ? static_cast<double>(weights[n]) : 0;
    LossSums sums;
    sums.weight = weight;
    sums.loss = counts ? weight * loss : 0;
    sums.top1 = all_before < 1 ? weight : 0;
    sums.top5 = all_before < 5 ? weight : 0;
    row_sums[n] = sums;
  }
};

// One group adds the rows' sums.
struct AddRowsKernel {
  const LossSums* row_sums;
  int32_t rows;
  LossSums* total;

  CONVOY_DEVICE void operator()(int32_t, Group& group) const {
    LossSums sums;
    for (int32_t n = group.rank(); n < rows; n += group.size()) {
      sums.weight += row_sums[n].weight;
      sums.loss += row_sums[n].loss;
      sums.top1 += row_sums[n].top1;
      sums.top5 += row_sums[n].top5;
    }
    sums.weight = group.Sum(sums.weight);
    sums.loss = group.Sum(sums.loss);
    sums.top1 = group.Sum(sums.top1);
    sums.top5 = group.Sum(sums.top5);
    if (group.rank() == 0) *total = sums;
  }
};

// dx = loss_scale * weight * (p - t)
template <typename T, int kWidth>
struct GradientKernel {
  const float* y;
  T* dx;
  const int32_t* labels;
  const float* weights;
  const StepValues* step_values;
  Divider row_vectors;
  float share, at_label;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t vector;
    const int32_t n = row_vectors.Split(i, &vector);
    const float scale = step_values->loss_scale * weights[n];
    const int32_t label = labels[n];
    const int64_t at = int64_t{i} * kWidth;
    float values[kWidth];
    LoadVector<kWidth>(y + at, values);
    for (int k = 0; k < kWidth; ++k) {
      const float target = vector * kWidth + k == label ? share + at_label : share;
      values[k] = scale * (values[k] - target);
    }
    StoreVector<kWidth>(values, dx + at);
  }
};

class SoftmaxLossOperation final : public Operation {
 public:
  SoftmaxLossOperation(const SoftmaxCrossEntropy& loss, const Wiring& wiring,
                       const OperationResources& resources)
      : wiring_(wiring),
        step_values_(resources.step_values),
        smoothing_(loss.label_smoothing),
        rows_(wiring.x.shape[0]),
        classes_(wiring.x.shape[1]),
        row_sums_(AllocateDevice(resources.device,
                                 (rows_ + 1) * static_cast<int64_t>(sizeof(LossSums)))) {}

  void Forward(const StepContext& context) override {
    Stream& stream = *context.stream;
    ForType(wiring_.x.dtype, [&](auto type) {
      using T = decltype(type);
      ForEachGroup(stream, rows_,
                   SoftmaxKernel<T>{.x = wiring_.x.As<T>(),
                                    .y = wiring_.y.As<float>(),
                                    .labels = context.rows.labels.As<int32_t>(),
                                    .weights = context.rows.weights.As<float>(),
                                    .row_sums = row_sums(),
                                    .classes = CheckedCount(classes_),
                                    .smoothing = smoothing_});
    });
    ForEachGroup(
        stream, 1,
        AddRowsKernel{.row_sums = row_sums(), .rows = CheckedCount(rows_), .total = total()});
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    ForType(wiring_.dx.dtype, [&](auto type) {
      using T = decltype(type);
      // As many as the probabilities, in fp32, have in 16 bytes.
      ForWidth<float>(classes_, [&](auto width) {
        ForEach(*context.stream, rows_ * classes_ / width,
                GradientKernel<T, decltype(width)::value>{
                    .y = wiring_.y.As<float>(),
                    .dx = wiring_.dx.As<T>(),
                    .labels = context.rows.labels.As<int32_t>(),
                    .weights = context.rows.weights.As<float>(),
                    .step_values = step_values_,
                    .row_vectors = Divider(classes_ / width),
                    .share = static_cast<float>(smoothing_ / static_cast<double>(classes_)),
                    .at_label = static_cast<float>(1 - smoothing_)});
      });
    });
  }

  Tensor loss_sums() override { return ViewOf(*total()); }

 private:
  LossSums* row_sums() const { return static_cast<LossSums*>(row_sums_.data()); }
  LossSums* total() const { return row_sums() + rows_; }

  Wiring wiring_;
  const StepValues* step_values_;
  double smoothing_;
  int64_t rows_, classes_;
  Buffer row_sums_;  // and their total
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const SoftmaxCrossEntropy& loss, const Wiring& wiring,
                                         const OperationResources& resources) {
  return std::make_unique<SoftmaxLossOperation>(loss, wiring, resources);
}

}  // namespace convoy::cuda
