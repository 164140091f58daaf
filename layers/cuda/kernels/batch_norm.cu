// Batch normalisation per channel, and the ReLU after it in the same pass. Statistics are summed in
// fp64, so that they do not depend on how the batch is cut over ranks.
#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/batch_norm_kernels.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

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
      SumGradients(*context.stream, request);
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
  int64_t PlaceThreads() const {
    return int64_t{columns_} * ((places_ + kPlacesPerThread - 1) / kPlacesPerThread);
  }

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

  void SumGradients(Stream& stream, const BackwardRequest& request) {
    const bool learns = request.learns;
    SumParts(stream, GradientTerms<T, kWidth>{.reader = Reader(), .channels = channels_});
    const LayerParameters& parameters = wiring_.parameters;
    ForEachGroup(stream, 2 * channels_,
                 AddGradientsKernel{
                     .part_sums = part_sums(),
                     .parts = parts_.parts(),
                     .channels = channels_,
                     .sums = channel_values_.sums,
                     .bias_gradient = learns ? parameters.bias_gradient.As<float>() : nullptr,
                     .weight_gradient = learns ? parameters.weight_gradient.As<float>() : nullptr,
                     .adds = request.adds});
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

std::unique_ptr<Operation> MakeOperation(const BatchNorm& norm, const Wiring& wiring,
                                         const OperationResources& resources) {
  return ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    return ForWidth<T>(wiring.x.shape.back(), [&](auto width) -> std::unique_ptr<Operation> {
      return std::make_unique<BatchNormOperation<T, decltype(width)::value>>(norm, wiring,
                                                                             resources.device);
    });
  });
}

}  // namespace convoy::cuda
