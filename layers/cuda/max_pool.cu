// Max pooling, with LRN before it in the same pass where a network has the two in a row. Forward
// keeps the tap of each maximum and no LRN output; backward computes the normalisation again.
//
// Bytes, AlexNet's 3 x 3 windows with stride 2, in values of the network's type per value of x:
//   forward   x once, y a quarter, and a byte of tap per y
//   backward  x and dx once, dy a quarter, the taps; without LRN and mask no x
// What neighbouring windows share is read again, from the caches. Flops per value of x, with the
// paper's LRN: forward 25 (half the places are normalised by two threads, and three comparisons
// stand for a place), backward 35 to 50.
#include <algorithm>

#include "core/cuda/runtime.h"
#include "layers/cuda/lrn_math.h"
#include "layers/cuda/operations.h"
#include "layers/cuda/pooling.h"

namespace convoy::cuda {
namespace {

// Where in its window a maximum was: (h - start) * kernel + (w - start).
template <int kKernel>
using TapOf = std::conditional_t<kKernel == 3, uint8_t, uint16_t>;

// A thread has kWidth channels of one column of windows, and walks down some rows of them: the row
// that two windows share is normalised once. kKernel 0 stands for any kernel.
template <typename T, typename Norm, int kKernel, int kWidth>
struct MaxPoolForward {
  using Tap = TapOf<kKernel>;

  Norm norm;
  PoolAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  int32_t kernel;
  int32_t windows_per_thread;
  const T* x;
  T* y;
  Tap* taps;  // null where no backward follows

  // Of a row, or of some rows, of a window: the first of the largest values and its tap.
  struct Maxima {
    float values[kWidth];
    int32_t taps[kWidth];
  };

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const int32_t first = place.h * windows_per_thread;
    const int32_t end = std::min(first + windows_per_thread, outputs.height());
    Maxima row = {};
    int32_t row_of = -1;  // the place of `row`
    for (int32_t window = first; window < end; ++window) {
      const Range places = rows.Window(window);
      Maxima best = {};
      for (int32_t h = places.begin; h < places.end; ++h) {
        if (h != row_of) row = MaximaOfRow(place, h);
        row_of = h;
        const int32_t first_tap = (h - rows.Start(window)) * kernel;
        for (int c = 0; c < kWidth; ++c) {
          const bool better = h == places.begin || row.values[c] > best.values[c];
          best.values[c] = better ? row.values[c] : best.values[c];
          best.taps[c] = better ? first_tap + row.taps[c] : best.taps[c];
        }
      }
      Store(best, outputs.OffsetOf(place.image, window, place.w) + place.channel);
    }
  }

  CONVOY_HOST_DEVICE Maxima MaximaOfRow(const PlaceThreads::Place& place, int32_t h) const {
    const Range places = columns.Window(place.w);
    const int32_t start = columns.Start(place.w);
    const int32_t count = kKernel > 0 ? kKernel : places.end - places.begin;
    Maxima row = {};
    for (int32_t k = 0; k < count; ++k) {
      // A window that is cut compares its last place again, which changes nothing.
      const int32_t w = std::min(places.begin + k, places.end - 1);
      float values[kWidth];
      norm.template Forward<kWidth>(x + inputs.OffsetOf(place.image, h, w) + place.channel,
                                    place.channel, values);
      for (int c = 0; c < kWidth; ++c) {
        const bool better = k == 0 || values[c] > row.values[c];
        row.values[c] = better ? values[c] : row.values[c];
        row.taps[c] = better ? w - start : row.taps[c];
      }
    }
    return row;
  }

  CONVOY_HOST_DEVICE void Store(const Maxima& best, int64_t offset) const {
    StoreVector<kWidth>(best.values, y + offset);
    if (taps == nullptr) return;
    Vector<Tap, kWidth> vector;
    for (int c = 0; c < kWidth; ++c) vector.values[c] = static_cast<Tap>(best.taps[c]);
    *reinterpret_cast<Vector<Tap, kWidth>*>(taps + offset) = vector;
  }
};

// The gradient of one place before the pooling: the sum of dy over the windows whose maximum is
// there, always in the same order.
template <typename T, typename Tap>
struct PooledGradient {
  const PoolAxis &rows, &columns;
  const Images& outputs;
  int32_t kernel;
  const T* dy;
  const Tap* taps;
  PlaceThreads::Place place;

  template <int kWidth, int kHalo>
  CONVOY_HOST_DEVICE void Load(int32_t channel, Neighbours neighbours, float* to) const {
    for (int c = 0; c < kWidth + 2 * kHalo; ++c) to[c] = 0;
    const Range over_rows = rows.Covering(place.h), over_columns = columns.Covering(place.w);
    for (int32_t row = over_rows.begin; row < over_rows.end; ++row) {
      for (int32_t column = over_columns.begin; column < over_columns.end; ++column) {
        const int32_t tap = (place.h - rows.Start(row)) * kernel + place.w - columns.Start(column);
        const int64_t offset = outputs.OffsetOf(place.image, row, column) + channel;
        Add<kWidth>(offset, tap, to + kHalo);
        if constexpr (kHalo > 0) {
          if (neighbours.left) Add<kHalo>(offset - kHalo, tap, to);
          if (neighbours.right) Add<kHalo>(offset + kWidth, tap, to + kHalo + kWidth);
        }
      }
    }
  }

  template <int kCount>
  CONVOY_HOST_DEVICE void Add(int64_t offset, int32_t tap, float* sums) const {
    const auto maxima = *reinterpret_cast<const Vector<Tap, kCount>*>(taps + offset);
    float gradient[kCount];
    LoadVector<kCount>(dy + offset, gradient);
    for (int c = 0; c < kCount; ++c) sums[c] += maxima.values[c] == tap ? gradient[c] : 0;
  }
};

template <typename T, typename Norm, int kKernel, int kWidth>
struct MaxPoolBackward {
  using Tap = TapOf<kKernel>;

  Norm norm;
  PoolAxis rows, columns;
  Images inputs, outputs;
  PlaceThreads threads;
  int32_t kernel;
  bool mask;
  const T* x;
  const T* dy;
  const Tap* taps;
  T* dx;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const PlaceThreads::Place place = threads.At(i);
    const int64_t offset = inputs.OffsetOf(place.image, place.h, place.w) + place.channel;
    const PooledGradient<T, Tap> gradient{.rows = rows,
                                          .columns = columns,
                                          .outputs = outputs,
                                          .kernel = kernel,
                                          .dy = dy,
                                          .taps = taps,
                                          .place = place};
    norm.template Backward<kWidth>(x + offset, place.channel, gradient, mask, dx + offset);
  }
};

// How many rows of windows a thread walks down: a few, where that leaves threads enough to fill the
// device.
int64_t WindowsPerThread(const Shape& outputs, int width, int device) {
  constexpr int64_t kThreadsPerMultiprocessor = 1024, kLongest = 8;
  const int64_t threads = kThreadsPerMultiprocessor * FactsOf(device).multiprocessors;
  const int64_t longest =
      std::clamp<int64_t>(outputs.count() / width / threads, 1, std::min(kLongest, outputs[1]));
  const int64_t walks = (outputs[1] + longest - 1) / longest;
  return (outputs[1] + walks - 1) / walks;
}

template <typename T, typename Norm, int kKernel, int kWidth>
class MaxPoolOperation final : public Operation {
 public:
  MaxPoolOperation(const Norm& norm, const Pool& pool, const Wiring& wiring, int device)
      : norm_(norm),
        wiring_(wiring),
        kernel_(pool.kernel),
        windows_per_thread_(WindowsPerThread(wiring.y.shape, kWidth, device)),
        rows_(pool, Axis::kHeight, wiring.x.shape[1], wiring.y.shape[1]),
        columns_(pool, Axis::kWidth, wiring.x.shape[2], wiring.y.shape[2]) {
    CONVOY_CHECK(kernel_ * kernel_ <= UINT16_MAX, "kernel {}", kernel_);
    if (wiring.dx) {
      taps_ = AllocateDevice(device, wiring.y.count() * static_cast<int64_t>(sizeof(Tap)));
    }
  }

  void Forward(const StepContext& context) override {
    const Shape& shape = wiring_.y.shape;
    const int64_t walks = (shape[1] + windows_per_thread_ - 1) / windows_per_thread_;
    const PlaceThreads threads(shape.With(1, walks), kWidth);
    ForEach(*context.stream, threads.count(),
            MaxPoolForward<T, Norm, kKernel, kWidth>{
                .norm = norm_,
                .rows = rows_,
                .columns = columns_,
                .inputs = Images(wiring_.x.shape),
                .outputs = Images(shape),
                .threads = threads,
                .kernel = kernel_,
                .windows_per_thread = static_cast<int32_t>(windows_per_thread_),
                .x = wiring_.x.As<T>(),
                .y = wiring_.y.As<T>(),
                .taps = static_cast<Tap*>(taps_.data())});
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    const PlaceThreads threads(wiring_.x.shape, kWidth);
    ForEach(*context.stream, threads.count(),
            MaxPoolBackward<T, Norm, kKernel, kWidth>{.norm = norm_,
                                                      .rows = rows_,
                                                      .columns = columns_,
                                                      .inputs = Images(wiring_.x.shape),
                                                      .outputs = Images(wiring_.y.shape),
                                                      .threads = threads,
                                                      .kernel = kernel_,
                                                      .mask = wiring_.mask_dx,
                                                      .x = wiring_.x.As<T>(),
                                                      .dy = wiring_.dy.As<T>(),
                                                      .taps = static_cast<const Tap*>(taps_.data()),
                                                      .dx = wiring_.dx.As<T>()});
  }

 private:
  using Tap = TapOf<kKernel>;

  Norm norm_;
  Wiring wiring_;
  int32_t kernel_;
  int64_t windows_per_thread_;
  PoolAxis rows_, columns_;
  Buffer taps_;
};

template <typename T, int kWidth, typename Norm>
std::unique_ptr<Operation> MakeWith(const Norm& norm, const Pool& pool, const Wiring& wiring,
                                    int device) {
  if (pool.kernel == 3) {
    return std::make_unique<MaxPoolOperation<T, Norm, 3, kWidth>>(norm, pool, wiring, device);
  }
  return std::make_unique<MaxPoolOperation<T, Norm, 0, kWidth>>(norm, pool, wiring, device);
}

}  // namespace

std::unique_ptr<Operation> MakeMaxPool(const Lrn* lrn, const Pool& pool, const Wiring& wiring,
                                       const OperationResources& resources) {
  return ForType(wiring.x.dtype, [&](auto type) {
    using T = decltype(type);
    const auto make = [&](const auto& norm, auto width) {
      return MakeWith<T, decltype(width)::value>(norm, pool, wiring, resources.device);
    };
    const int64_t channels = wiring.x.shape[3];
    if (lrn != nullptr) return ForLrn<T>(*lrn, channels, make);
    return ForWidth<T>(channels, [&](auto width) { return make(NoLrn{}, width); });
  });
}

}  // namespace convoy::cuda
