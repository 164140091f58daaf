// Average pooling over windows of any kind.
//
// Bytes, in values of the network's type: forward reads x and writes y once; backward reads dy and
// writes dx once. What windows share is read again, from the caches. Flops: one addition per value
// of each window forward, and with the factor two backward.
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/pooling.h"

namespace convoy::cuda {
namespace {

template <typename T, typename WindowAxis, int kWidth>
struct AveragePoolForward {
  WindowAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  const T* x;
  T* y;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const Range over_rows = rows.Window(place.h), over_columns = columns.Window(place.w);
    float sums[kWidth] = {};
    for (int32_t h = over_rows.begin; h < over_rows.end; ++h) {
      for (int32_t w = over_columns.begin; w < over_columns.end; ++w) {
        float values[kWidth];
        LoadVector<kWidth>(x + inputs.OffsetOf(place.image, h, w) + place.channel, values);
        for (int c = 0; c < kWidth; ++c) sums[c] += values[c];
      }
    }
    const float factor = 1 / (rows.Divisor(place.h) * columns.Divisor(place.w));
    for (int c = 0; c < kWidth; ++c) sums[c] *= factor;
    StoreVector<kWidth>(sums, y + outputs.OffsetOf(place.image, place.h, place.w) + place.channel);
  }
};

// Every place of x gathers from the windows that contain it, always in the same order.
template <typename T, typename WindowAxis, int kWidth>
struct AveragePoolBackward {
  WindowAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  const T* dy;
  T* dx;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const Range over_rows = rows.Covering(place.h), over_columns = columns.Covering(place.w);
    float sums[kWidth] = {};
    for (int32_t h = over_rows.begin; h < over_rows.end; ++h) {
      for (int32_t w = over_columns.begin; w < over_columns.end; ++w) {
        const float factor = 1 / (rows.Divisor(h) * columns.Divisor(w));
        float values[kWidth];
        LoadVector<kWidth>(dy + outputs.OffsetOf(place.image, h, w) + place.channel, values);
        for (int c = 0; c < kWidth; ++c) sums[c] += values[c] * factor;
      }
    }
    StoreVector<kWidth>(sums, dx + inputs.OffsetOf(place.image, place.h, place.w) + place.channel);
  }
};

template <typename T, typename WindowAxis, int kWidth>
class AveragePoolOperation final : public Operation {
 public:
  AveragePoolOperation(const WindowAxis& rows, const WindowAxis& columns, const Wiring& wiring)
      : wiring_(wiring), rows_(rows), columns_(columns) {}

  void Forward(const StepContext& context) override {
    const PlaceThreads threads(wiring_.y.shape, kWidth);
    ForEach(*context.stream, threads.count(),
            AveragePoolForward<T, WindowAxis, kWidth>{.rows = rows_,
                                                      .columns = columns_,
                                                      .inputs = Images(wiring_.x.shape),
                                                      .outputs = Images(wiring_.y.shape),
                                                      .threads = threads,
                                                      .x = wiring_.x.As<T>(),
                                                      .y = wiring_.y.As<T>()});
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    const PlaceThreads threads(wiring_.x.shape, kWidth);
    ForEach(*context.stream, threads.count(),
            AveragePoolBackward<T, WindowAxis, kWidth>{.rows = rows_,
                                                       .columns = columns_,
                                                       .inputs = Images(wiring_.x.shape),
                                                       .outputs = Images(wiring_.y.shape),
                                                       .threads = threads,
                                                       .dy = wiring_.dy.As<T>(),
                                                       .dx = wiring_.dx.As<T>()});
  }

 private:
  Wiring wiring_;
  WindowAxis rows_, columns_;
};

template <typename WindowAxis>
std::unique_ptr<Operation> Make(const WindowAxis& rows, const WindowAxis& columns,
                                const Wiring& wiring) {
  return ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    return ForWidth<T>(wiring.x.shape[3], [&](auto width) -> std::unique_ptr<Operation> {
      return std::make_unique<AveragePoolOperation<T, WindowAxis, decltype(width)::value>>(
          rows, columns, wiring);
    });
  });
}

}  // namespace

std::unique_ptr<Operation> MakeAveragePool(const Pool& pool, const Wiring& wiring) {
  const Shape &x = wiring.x.shape, &y = wiring.y.shape;
  return Make(PoolAxis(pool, Axis::kHeight, x[1], y[1]), PoolAxis(pool, Axis::kWidth, x[2], y[2]),
              wiring);
}

std::unique_ptr<Operation> MakeOperation(const AdaptiveAveragePool&, const Wiring& wiring,
                                         const OperationResources&) {
  const Shape &x = wiring.x.shape, &y = wiring.y.shape;
  return Make(AdaptiveAxis(x[1], y[1]), AdaptiveAxis(x[2], y[2]), wiring);
}

}  // namespace convoy::cuda
