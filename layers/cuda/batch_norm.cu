// Batch normalisation per channel, and the ReLU after it in the same pass. Statistics are summed in
// fp64, so that they do not depend on how the batch is cut over ranks.
//   forward   bytes per value in bf16: 2 read for the statistics; 2 read and 2 written; 3 flops in
//             fp64, 3 in fp32
//   backward  2 read each of x, dy and, where the ReLU masks, y, twice; 2 written; 3 flops in fp64,
//             8 in fp32
// Twice the bytes in fp32. What is kept per channel comes from the cache.
#include <cmath>

#include "core/cuda/runtime.h"
#include "layers/cuda/channel_sums.h"
#include "layers/cuda/operations.h"
#include "layers/cuda/vector_width.h"

namespace convoy::cuda {
namespace {

// Neighbouring places that one thread writes, for one load of the channels' values.
constexpr int32_t kPlaces = 4;

// What is kept per channel, in device memory.
struct ChannelValues {
  double* sums;   // 2 per channel, and the number of values that they are of
  double* count;  // values per channel in the global batch, from forward to backward
  float *means, *inverse_deviations, *factors;
  float *mean_gradients, *mean_products;
};

// sum(x), sum(x^2) of the rows that count.
template <typename T, int kVector>
struct StatisticsTerms {
  static constexpr int kSums = 2, kWidth = kVector;
  using Sum = double;

  const T* x;
  const float* weights;
  Divider row_places;
  int32_t channels;

  CONVOY_HOST_DEVICE void Add(int32_t place, int32_t channel, double* sums) const {
    const bool counts = weights[row_places.Divide(place)] > 0;
    float values[kWidth];
    LoadVector<kWidth>(x + (place * channels + channel), values);
    for (int k = 0; k < kWidth; ++k) {
      const double value = counts ? static_cast<double>(values[k]) : 0;
      sums[k] += value;
      sums[kWidth + k] += value * value;
    }
  }
};

// A group per sum, and one that counts.
struct AddStatisticsKernel {
  const double* part_sums;
  int32_t parts;
  int32_t sum_count;
  const float* weights;
  int32_t rows, row_places;
  double* sums;

  CONVOY_DEVICE void operator()(int32_t i, Group& group) const {
    double sum = 0;
    if (i < sum_count) {
      sum = AddParts(part_sums + int64_t{i} * parts, parts, group);
    } else {
      for (int32_t n = group.rank(); n < rows; n += group.size()) sum += weights[n] > 0 ? 1 : 0;
      sum = group.Sum(sum) * row_places;
    }
    if (group.rank() == 0) sums[i] = sum;
  }
};

// Per channel: what the values are normalised with, and in training the running values.
struct StatisticsKernel {
  ChannelValues values;
  const float* weight;
  float* running_means;
  float* running_variances;
  int32_t channels;
  bool of_batch;
  double epsilon, momentum;

  CONVOY_HOST_DEVICE void operator()(int32_t c) const {
    const double all = of_batch ? values.sums[2 * channels] : 0;
    const double count = all > 1 ? all : 1;
    if (c == 0) *values.count = count;
    auto mean = static_cast<double>(running_means[c]);
    auto variance = static_cast<double>(running_variances[c]);
    if (all > 0) {  // not every row was dropped
      mean = values.sums[c] / count;
      variance = values.sums[channels + c] / count - mean * mean;
      // A NaN stays one.
      if (variance < 0) variance = 0;
      Move(running_means[c], mean);
      Move(running_variances[c], count > 1 ? variance * count / (count - 1) : variance);
    }
    const auto inverse_deviation = static_cast<float>(1 / std::sqrt(variance + epsilon));
    values.means[c] = static_cast<float>(mean);
    values.inverse_deviations[c] = inverse_deviation;
    values.factors[c] = weight[c] * inverse_deviation;
  }
  CONVOY_HOST_DEVICE void Move(float& running, double value) const {
    const auto old = static_cast<double>(running);
    running = static_cast<float>(old + momentum * (value - old));
  }
};

template <typename T, int kWidth>
struct NormaliseKernel {
  const T* x;
  T* y;
  ChannelValues channel_values;
  const float* bias;
  Divider columns;
  int32_t places;
  bool relu;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t column;
    const int32_t first = columns.Split(i, &column) * kPlaces;
    const int32_t channel = column * kWidth, channels = columns.divisor() * kWidth;
    float means[kWidth], factors[kWidth], biases[kWidth];
    LoadVector<kWidth>(channel_values.means + channel, means);
    LoadVector<kWidth>(channel_values.factors + channel, factors);
    LoadVector<kWidth>(bias + channel, biases);
    for (int32_t place = first; place < first + kPlaces && place < places; ++place) {
      const int32_t at = place * channels + channel;
      float values[kWidth];
      LoadVector<kWidth>(x + at, values);
      for (int k = 0; k < kWidth; ++k) {
        const float value = (values[k] - means[k]) * factors[k] + biases[k];
        values[k] = value > 0 || !relu ? value : 0;
      }
      StoreVector<kWidth>(values, y + at);
    }
  }
};

// What both passes of backward read: dy as it was before the ReLU, and x^.
template <typename T, int kWidth>
struct GradientReader {
  const T* x;
  const T* dy;
  const T* mask;  // zero where dy is; null where dy is masked already, or there is no ReLU
  const float* means;
  const float* inverse_deviations;

  CONVOY_HOST_DEVICE void Read(int32_t at, int32_t channel, float* gradients,
                               float* normalised) const {
    float channel_means[kWidth], channel_inverses[kWidth];
    LoadVector<kWidth>(means + channel, channel_means);
    LoadVector<kWidth>(inverse_deviations + channel, channel_inverses);
    LoadVector<kWidth>(x + at, normalised);
    LoadVector<kWidth>(dy + at, gradients);
    for (int k = 0; k < kWidth; ++k) {
      normalised[k] = (normalised[k] - channel_means[k]) * channel_inverses[k];
    }
    if (mask == nullptr) return;
    float outputs[kWidth];
    LoadVector<kWidth>(mask + at, outputs);
    for (int k = 0; k < kWidth; ++k) gradients[k] = outputs[k] > 0 ? gradients[k] : 0;
  }
};

// sum(dy), sum(dy * x^)
template <typename T, int kVector>
struct GradientTerms {
  static constexpr int kSums = 2, kWidth = kVector;
  using Sum = double;

  GradientReader<T, kWidth> reader;
  int32_t channels;

  CONVOY_HOST_DEVICE void Add(int32_t place, int32_t channel, double* sums) const {
    float gradients[kWidth], normalised[kWidth];
    reader.Read(place * channels + channel, channel, gradients, normalised);
    for (int k = 0; k < kWidth; ++k) {
      const auto gradient = static_cast<double>(gradients[k]);
      sums[k] += gradient;
      sums[kWidth + k] += gradient * static_cast<double>(normalised[k]);
    }
  }
};

// A group per sum, which is also what this rank's rows give to a weight.
struct AddGradientsKernel {
  const double* part_sums;
  int32_t parts;
  int32_t channels;
  double* sums;
  float* bias_gradient;  // null where the layer does not learn
  float* weight_gradient;

  CONVOY_DEVICE void operator()(int32_t i, Group& group) const {
    const double sum = AddParts(part_sums + int64_t{i} * parts, parts, group);
    if (group.rank() != 0) return;
    sums[i] = sum;
    if (bias_gradient == nullptr) return;
    const auto gradient = static_cast<float>(sum);
    if (i < channels) {
      bias_gradient[i] = gradient;
    } else {
      weight_gradient[i - channels] = gradient;
    }
  }
};

struct MeanGradientsKernel {
  ChannelValues values;
  int32_t channels;

  CONVOY_HOST_DEVICE void operator()(int32_t c) const {
    values.mean_gradients[c] = static_cast<float>(values.sums[c] / *values.count);
    values.mean_products[c] = static_cast<float>(values.sums[channels + c] / *values.count);
  }
};

// With x^ = (x - mean) / deviation and m values per channel:
//   dx = weight / deviation * (dy - sum(dy) / m - x^ * sum(dy * x^) / m)
template <typename T, int kWidth>
struct DataGradientKernel {
  GradientReader<T, kWidth> reader;
  T* dx;
  ChannelValues channel_values;
  const float* weights;
  Divider columns, row_places;
  int32_t places;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t column;
    const int32_t first = columns.Split(i, &column) * kPlaces;
    const int32_t channel = column * kWidth, channels = columns.divisor() * kWidth;
    float factors[kWidth], mean_gradients[kWidth], mean_products[kWidth];
    LoadVector<kWidth>(channel_values.factors + channel, factors);
    LoadVector<kWidth>(channel_values.mean_gradients + channel, mean_gradients);
    LoadVector<kWidth>(channel_values.mean_products + channel, mean_products);
    for (int32_t place = first; place < first + kPlaces && place < places; ++place) {
      // A row that was not counted moves no statistic.
      const float counted = weights[row_places.Divide(place)] > 0 ? 1 : 0;
      const int32_t at = place * channels + channel;
      float gradients[kWidth], normalised[kWidth];
      reader.Read(at, channel, gradients, normalised);
      for (int k = 0; k < kWidth; ++k) {
        const float through_statistics = mean_gradients[k] + normalised[k] * mean_products[k];
        gradients[k] = factors[k] * (gradients[k] - counted * through_statistics);
      }
      StoreVector<kWidth>(gradients, dx + at);
    }
  }
};

template <typename T, int kWidth>
class BatchNormOperation final : public Operation {
 public:
  BatchNormOperation(const BatchNorm& norm, const Wiring& wiring, int device)
      : norm_(norm),
        wiring_(wiring),
        rows_(CheckedCount(wiring.x.shape[0])),
        channels_(CheckedCount(wiring.x.shape.back())),
        places_(CheckedCount(wiring.x.count()) / channels_),
        columns_(channels_ / kWidth),
        parts_(places_, columns_),
        sums_(AllocateDevice(device, (2 * channels_ + 2) * SizeOf(DType::kFloat64))) {
    const int64_t sum_count = 2 * int64_t{channels_};
    part_sums_ = AllocateDevice(device, sum_count * parts_.parts() * SizeOf(DType::kFloat64));
    const int64_t stride = RoundUp(channels_, ArenaLayout::kAlignmentElements);
    channel_memory_ = AllocateDevice(device, 5 * stride * SizeOf(DType::kFloat32));
    auto* const sums = static_cast<double*>(sums_.data());
    auto* const memory = static_cast<float*>(channel_memory_.data());
    channel_values_ = {.sums = sums,
                       .count = sums + sum_count + 1,
                       .means = memory,
                       .inverse_deviations = memory + stride,
                       .factors = memory + 2 * stride,
                       .mean_gradients = memory + 3 * stride,
                       .mean_products = memory + 4 * stride};
  }

  void Forward(const StepContext& context) override {
    Stream& stream = *context.stream;
    if (context.training) SumStatistics(context);
    const LayerParameters& parameters = wiring_.parameters;
    ForEach(stream, channels_,
            StatisticsKernel{.values = channel_values_,
                             .weight = parameters.weight.As<float>(),
                             .running_means = parameters.running_mean.As<float>(),
                             .running_variances = parameters.running_variance.As<float>(),
                             .channels = channels_,
                             .of_batch = context.training,
                             .epsilon = norm_.epsilon,
                             .momentum = norm_.momentum});
    ForEach(stream, PlaceThreads(),
            NormaliseKernel<T, kWidth>{.x = wiring_.x.As<T>(),
                                       .y = wiring_.y.As<T>(),
                                       .channel_values = channel_values_,
                                       .bias = parameters.bias.As<float>(),
                                       .columns = Divider(columns_),
                                       .places = places_,
                                       .relu = wiring_.relu});
  }

  // The sums run over the global batch, those for the weights over this rank's rows.
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    const LayerParameters& parameters = wiring_.parameters;
    {
      const PhaseTimer timer(context, wiring_.name, "backward weights");
      SumGradients(*context.stream, request.learns);
    }
    if (request.learns) parameters.ReportReady(request.observer);
    if (request.wants_dx) {
      const PhaseTimer timer(context, wiring_.name, "backward data");
      Reduce(context, 2 * channels_);
      WriteDataGradient(context);
    }
    parameters.ReportReleased(request.observer);
  }

 private:
  double* part_sums() const { return static_cast<double*>(part_sums_.data()); }
  Divider RowPlaces() const { return Divider(places_ / rows_); }
  int64_t PlaceThreads() const { return int64_t{columns_} * ((places_ + kPlaces - 1) / kPlaces); }

  void SumStatistics(const StepContext& context) {
    const auto* weights = context.rows.weights.As<float>();
    SumParts(*context.stream, StatisticsTerms<T, kWidth>{.x = wiring_.x.As<T>(),
                                                         .weights = weights,
                                                         .row_places = RowPlaces(),
                                                         .channels = channels_});
    ForEachGroup(*context.stream, 2 * channels_ + 1,
                 AddStatisticsKernel{.part_sums = part_sums(),
                                     .parts = parts_.parts(),
                                     .sum_count = 2 * channels_,
                                     .weights = weights,
                                     .rows = rows_,
                                     .row_places = places_ / rows_,
                                     .sums = channel_values_.sums});
    Reduce(context, 2 * channels_ + 1);
  }

  void SumGradients(Stream& stream, bool learns) {
    SumParts(stream, GradientTerms<T, kWidth>{.reader = Reader(), .channels = channels_});
    const LayerParameters& parameters = wiring_.parameters;
    ForEachGroup(stream, 2 * channels_,
                 AddGradientsKernel{
                     .part_sums = part_sums(),
                     .parts = parts_.parts(),
                     .channels = channels_,
                     .sums = channel_values_.sums,
                     .bias_gradient = learns ? parameters.bias_gradient.As<float>() : nullptr,
                     .weight_gradient = learns ? parameters.weight_gradient.As<float>() : nullptr});
  }

  void WriteDataGradient(const StepContext& context) {
    ForEach(*context.stream, channels_,
            MeanGradientsKernel{.values = channel_values_, .channels = channels_});
    ForEach(*context.stream, PlaceThreads(),
            DataGradientKernel<T, kWidth>{.reader = Reader(),
                                          .dx = wiring_.dx.As<T>(),
                                          .channel_values = channel_values_,
                                          .weights = context.rows.weights.As<float>(),
                                          .columns = Divider(columns_),
                                          .row_places = RowPlaces(),
                                          .places = places_});
  }

  GradientReader<T, kWidth> Reader() const {
    const bool masks = wiring_.relu && !wiring_.dy_is_masked;
    return {.x = wiring_.x.As<T>(),
            .dy = wiring_.dy.As<T>(),
            .mask = masks ? wiring_.y.As<T>() : nullptr,
            .means = channel_values_.means,
            .inverse_deviations = channel_values_.inverse_deviations};
  }

  template <typename Terms>
  void SumParts(Stream& stream, const Terms& terms) {
    ForEach(stream, int64_t{columns_} * parts_.parts(),
            SumPartsKernel<Terms>{.terms = terms,
                                  .parts = parts_,
                                  .columns = Divider(columns_),
                                  .part_sums = part_sums()});
  }

  // The first `count` sums, over all replicas.
  void Reduce(const StepContext& context, int64_t count) {
    if (!context.reduce_statistics) return;
    context.reduce_statistics(*context.stream,
                              {channel_values_.sums, DType::kFloat64, Shape{count}});
  }

  BatchNorm norm_;
  Wiring wiring_;
  int32_t rows_, channels_, places_, columns_;
  PlaceParts parts_;
  Buffer sums_, part_sums_, channel_memory_;
  ChannelValues channel_values_{};
};

}  // namespace

std::unique_ptr<Operation> MakeBatchNorm(const BatchNorm& norm, const Wiring& wiring,
                                         const OperationResources& resources) {
  std::unique_ptr<Operation> result;
  ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    ForWidth<T>(wiring.x.shape.back(), [&](auto width) {
      result = std::make_unique<BatchNormOperation<T, decltype(width)::value>>(norm, wiring,
                                                                               resources.device);
    });
  });
  return result;
}

}  // namespace convoy::cuda
