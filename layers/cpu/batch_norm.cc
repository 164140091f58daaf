// Batch normalisation per channel, and the ReLU after it in the same pass. Statistics are summed
// in fp64, so that they do not depend on how the batch is cut over ranks.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "layers/cpu/numbers.h"
#include "layers/cpu/operation.h"

namespace convoy::cpu {
namespace {

template <typename T>
class BatchNormOperation final : public Operation {
 public:
  BatchNormOperation(const BatchNorm& norm, const Wiring& wiring)
      : norm_(norm),
        wiring_(wiring),
        rows_(wiring.x.shape[0]),
        channels_(wiring.x.shape.back()),
        places_(wiring.x.count() / rows_ / channels_),
        sums_(2 * static_cast<size_t>(channels_) + 1),
        means_(static_cast<size_t>(channels_)),
        inverse_deviations_(means_.size()),
        factors_(means_.size()),
        mean_gradients_(means_.size()),
        mean_products_(means_.size()) {
    for (int thread = 0; thread < wiring.threads; ++thread) {
      thread_sums_.push_back(AllocateHost(2 * channels_ * SizeOf(DType::kFloat64)));
    }
  }

  void Forward(const StepContext& context) override {
    if (context.training) {
      UseBatchStatistics(context);
    } else {
      UseRunningStatistics();
    }
    const float* weight = wiring_.parameters.weight.As<float>();
    const float* bias = wiring_.parameters.bias.As<float>();
    for (size_t c = 0; c < means_.size(); ++c) factors_[c] = weight[c] * inverse_deviations_[c];
    const T* x = wiring_.x.As<T>();
    T* y = wiring_.y.As<T>();
    const bool relu = wiring_.relu;
    const float *means = means_.data(), *factors = factors_.data();
    ForEachPlace([&](int64_t, int64_t offset, int) {
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) {
        const float value = (Load(x + offset + c) - means[c]) * factors[c] + bias[c];
        Store(ZeroUnless((value > 0) | !relu, value), y + offset + c);
      }
    });
  }

  // With x^ = (x - mean) / deviation and m values per channel:
  //   dx = weight / deviation * (dy - sum(dy) / m - x^ * sum(dy * x^) / m)
  // The sums run over the global batch, those for the weights over this rank's rows.
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    {
      const PhaseTimer timer(context, wiring_.name, "backward weights");
      SumGradients();
    }
    const LayerParameters& parameters = wiring_.parameters;
    if (request.learns) {
      const auto channels = static_cast<size_t>(channels_);
      float* const db = parameters.bias_gradient.As<float>();
      float* const dw = parameters.weight_gradient.As<float>();
      for (size_t c = 0; c < channels; ++c) {
        db[c] = static_cast<float>(sums_[c]) + (request.adds ? db[c] : 0);
        dw[c] = static_cast<float>(sums_[channels + c]) + (request.adds ? dw[c] : 0);
      }
      parameters.ReportReady(request.observer);
    }
    if (request.wants_dx) {
      const PhaseTimer timer(context, wiring_.name, "backward data");
      Reduce(context, 2 * channels_);
      WriteDataGradient(context);
    }
    parameters.ReportReleased(request.observer);
  }

 private:
  void UseRunningStatistics() {
    const float* means = wiring_.parameters.running_mean.As<float>();
    const float* variances = wiring_.parameters.running_variance.As<float>();
    for (size_t c = 0; c < means_.size(); ++c) {
      means_[c] = means[c];
      inverse_deviations_[c] =
          static_cast<float>(1 / std::sqrt(static_cast<double>(variances[c]) + norm_.epsilon));
    }
  }

  void UseBatchStatistics(const StepContext& context) {
    const float* weights = context.rows.weights.As<float>();
    const T* x = wiring_.x.As<T>();
    SumOverPlaces([&](int64_t n, int64_t offset, double* first, double* second) {
      if (weights[n] <= 0) return;
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) {
        const auto value = static_cast<double>(Load(x + offset + c));
        first[c] += value;
        second[c] += value * value;
      }
    });
    const auto counted = std::count_if(weights, weights + rows_, [](float w) { return w > 0; });
    sums_.back() = static_cast<double>(counted * places_);
    Reduce(context, 2 * channels_ + 1);

    const auto channels = static_cast<size_t>(channels_);
    count_ = std::max(1.0, sums_.back());
    if (sums_.back() == 0) return UseRunningStatistics();  // every row was dropped
    float* running_means = wiring_.parameters.running_mean.As<float>();
    float* running_variances = wiring_.parameters.running_variance.As<float>();
    const auto move = [&](float& running, double value) {
      running = static_cast<float>(running + norm_.momentum * (value - running));
    };
    for (size_t c = 0; c < channels; ++c) {
      const double mean = sums_[c] / count_;
      const double variance = std::max(0.0, sums_[channels + c] / count_ - mean * mean);
      means_[c] = static_cast<float>(mean);
      inverse_deviations_[c] = static_cast<float>(1 / std::sqrt(variance + norm_.epsilon));
      move(running_means[c], mean);
      // One value has no variance.
      if (count_ > 1) move(running_variances[c], variance * count_ / (count_ - 1));
    }
  }

  // dy as it was before the ReLU.
  float GradientAt(const T* y, const T* dy, bool mask, int64_t i) const {
    return ZeroUnless((Load(y + i) > 0) | !mask, Load(dy + i));
  }
  bool MasksDy() const { return wiring_.relu && !wiring_.dy_is_masked; }

  // sums_ = per channel sum(dy), then sum(dy * x^).
  void SumGradients() {
    const T* x = wiring_.x.As<T>();
    const T* y = wiring_.y.As<T>();
    const T* dy = wiring_.dy.As<T>();
    const bool mask = MasksDy();
    const float *means = means_.data(), *inverse_deviations = inverse_deviations_.data();
    SumOverPlaces([&](int64_t, int64_t offset, double* first, double* second) {
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) {
        const float gradient = GradientAt(y, dy, mask, offset + c);
        const float normalised = (Load(x + offset + c) - means[c]) * inverse_deviations[c];
        first[c] += static_cast<double>(gradient);
        second[c] += static_cast<double>(gradient) * static_cast<double>(normalised);
      }
    });
  }

  void WriteDataGradient(const StepContext& context) {
    const float* weights = context.rows.weights.As<float>();
    const T* x = wiring_.x.As<T>();
    const T* y = wiring_.y.As<T>();
    const T* dy = wiring_.dy.As<T>();
    T* dx = wiring_.dx.As<T>();
    const bool mask = MasksDy();
    for (size_t c = 0; c < means_.size(); ++c) {
      mean_gradients_[c] = static_cast<float>(sums_[c] / count_);
      mean_products_[c] = static_cast<float>(sums_[means_.size() + c] / count_);
    }
    const float *means = means_.data(), *inverse_deviations = inverse_deviations_.data();
    const float *mean_gradients = mean_gradients_.data(), *mean_products = mean_products_.data();
    const float* factors = factors_.data();
    ForEachPlace([&](int64_t n, int64_t offset, int) {
      // A row that was not counted moves no statistic.
      const float counted = weights[n] > 0 ? 1 : 0;
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) {
        const float gradient = GradientAt(y, dy, mask, offset + c);
        const float normalised = (Load(x + offset + c) - means[c]) * inverse_deviations[c];
        const float through_statistics = mean_gradients[c] + normalised * mean_products[c];
        Store(factors[c] * (gradient - counted * through_statistics), dx + offset + c);
      }
    });
  }

  // The first `count` sums, over all replicas.
  void Reduce(const StepContext& context, int64_t count) {
    if (!context.reduce_statistics) return;
    context.reduce_statistics(*context.stream, {sums_.data(), DType::kFloat64, Shape{count}});
  }

  // sums_ = what add(row, offset, first, second) adds up over all places, thread by thread.
  template <typename Add>
  void SumOverPlaces(Add&& add) {
    const auto sums_of = [&](int thread) {
      return static_cast<double*>(thread_sums_[static_cast<size_t>(thread)].data());
    };
    for (int thread = 0; thread < wiring_.threads; ++thread) {
      std::fill_n(sums_of(thread), 2 * channels_, 0.0);
    }
    ForEachPlace([&](int64_t n, int64_t offset, int thread) {
      add(n, offset, sums_of(thread), sums_of(thread) + channels_);
    });
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (int thread = 0; thread < wiring_.threads; ++thread) {
      for (int64_t i = 0; i < 2 * channels_; ++i) {
        sums_[static_cast<size_t>(i)] += sums_of(thread)[i];
      }
    }
  }

  // visit(row, offset of the place's first channel, thread)
  template <typename Visit>
  void ForEachPlace(Visit&& visit) const {
#pragma omp parallel num_threads(wiring_.threads)
    {
      const int thread = omp_get_thread_num();
      const Part part = PartOf(rows_ * places_, thread, omp_get_num_threads());
      for (int64_t place = part.begin; place < part.end; ++place) {
        visit(place / places_, place * channels_, thread);
      }
    }
  }

  BatchNorm norm_;
  Wiring wiring_;
  int64_t rows_, channels_, places_;
  std::vector<Buffer> thread_sums_;
  std::vector<double> sums_;
  double count_ = 0;  // values per channel in the global batch
  std::vector<float> means_, inverse_deviations_, factors_;
  std::vector<float> mean_gradients_, mean_products_;
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const BatchNorm& norm, const Wiring& wiring, OneDnn&) {
  return MakeForType<BatchNormOperation>(wiring.x.dtype, norm, wiring);
}

}  // namespace convoy::cpu
