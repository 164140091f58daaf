// layers/cuda/kernels/batch_norm_kernels.h - the kernels of batch normalisation.
//   forward   bytes per value in bf16: 2 read for the statistics; 2 read and 2 written; 3 flops in
//             fp64, 3 in fp32
//   backward  2 read each of x, dy and, if the ReLU masks, y, twice; 2 written; 3 flops in fp64,
//             8 in fp32
// Twice the bytes in fp32. What is kept per channel comes from the cache.
#pragma once

#include <cmath>
#include <cstdint>

#include "layers/cuda/kernels/channel_sums.h"
#include "layers/cuda/kernels/numbers.h"

namespace convoy::cuda {

// Neighbouring places that one thread writes, for one load of the channels' values.
constexpr int32_t kPlacesPerThread = 4;

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
      // One value has no variance.
      if (count > 1) Move(running_variances[c], variance * count / (count - 1));
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
    const int32_t first = columns.Split(i, &column) * kPlacesPerThread;
    const int32_t channel = column * kWidth, channels = columns.divisor() * kWidth;
    float means[kWidth], factors[kWidth], biases[kWidth];
    LoadVector<kWidth>(channel_values.means + channel, means);
    LoadVector<kWidth>(channel_values.factors + channel, factors);
    LoadVector<kWidth>(bias + channel, biases);
    for (int32_t place = first; place < first + kPlacesPerThread && place < places; ++place) {
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
  const T* mask;  // zero if dy is; null if dy is masked already, or there is no ReLU
  const float* means;
  const float* inverse_deviations;

  struct Channels {
    float means[kWidth], inverse_deviations[kWidth];
  };
  CONVOY_HOST_DEVICE Channels ReadChannels(int32_t channel) const {
    Channels result;
    LoadVector<kWidth>(means + channel, result.means);
    LoadVector<kWidth>(inverse_deviations + channel, result.inverse_deviations);
    return result;
  }
  CONVOY_HOST_DEVICE void Read(int32_t at, const Channels& channels, float* gradients,
                               float* normalised) const {
    LoadVector<kWidth>(x + at, normalised);
    LoadVector<kWidth>(dy + at, gradients);
    for (int k = 0; k < kWidth; ++k) {
      normalised[k] = (normalised[k] - channels.means[k]) * channels.inverse_deviations[k];
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
    reader.Read(place * channels + channel, reader.ReadChannels(channel), gradients, normalised);
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
  float* bias_gradient;  // null if the layer does not learn
  float* weight_gradient;
  bool adds;  // to what is in them

  CONVOY_DEVICE void operator()(int32_t i, Group& group) const {
    const double sum = AddParts(part_sums + int64_t{i} * parts, parts, group);
    if (group.rank() != 0) return;
    sums[i] = sum;
    if (bias_gradient == nullptr) return;
    float* const gradient = i < channels ? bias_gradient + i : weight_gradient + (i - channels);
    *gradient = static_cast<float>(sum) + (adds ? *gradient : 0.0f);
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
    const int32_t first = columns.Split(i, &column) * kPlacesPerThread;
    const int32_t channel = column * kWidth, channels = columns.divisor() * kWidth;
    const auto of_channels = reader.ReadChannels(channel);
    float factors[kWidth], mean_gradients[kWidth], mean_products[kWidth];
    LoadVector<kWidth>(channel_values.factors + channel, factors);
    LoadVector<kWidth>(channel_values.mean_gradients + channel, mean_gradients);
    LoadVector<kWidth>(channel_values.mean_products + channel, mean_products);
    for (int32_t place = first; place < first + kPlacesPerThread && place < places; ++place) {
      // A row that was not counted moves no statistic.
      const float counted = weights[row_places.Divide(place)] > 0 ? 1 : 0;
      const int32_t at = place * channels + channel;
      float gradients[kWidth], normalised[kWidth];
      reader.Read(at, of_channels, gradients, normalised);
      for (int k = 0; k < kWidth; ++k) {
        const float through_statistics = mean_gradients[k] + normalised[k] * mean_products[k];
        gradients[k] = factors[k] * (gradients[k] - counted * through_statistics);
      }
      StoreVector<kWidth>(gradients, dx + at);
    }
  }
};

}  // namespace convoy::cuda
