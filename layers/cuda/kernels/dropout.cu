// Dropout. No mask is kept: after a ReLU the output's zeros are the mask, elsewhere backward draws
// it again. Bytes per value in bf16: 2 read, 2 written, in backward after a ReLU 2 more read;
// twice that in fp32. A draw costs some 25 integer operations a value, 100 if a thread takes
// single values.
#include "core/error.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/operations/dropout_mask.h"

namespace convoy::cuda {
namespace {

// kWidth is a multiple of 4, whole blocks of draws, or 1.
template <typename T, int kWidth>
struct DrawKernel {
  const T* from;
  T* to;
  const StepValues* step_values;
  const int64_t* positions;
  int layer;
  uint32_t threshold;
  float kept;                          // what a kept value is multiplied by
  Divider row_vectors, slice_vectors;  // vectors per row, and per place
  int64_t slice_begin, slice_total;    // channels of the uncut activation

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t in_row, in_slice;
    const int32_t n = row_vectors.Split(i, &in_row);
    const int32_t place = slice_vectors.Split(in_row, &in_slice);
    const int64_t element = place * slice_total + slice_begin + in_slice * kWidth;
    // Padding rows (position -1) have no draws; what they hold is never used.
    const int64_t position = positions[n] < 0 ? 0 : positions[n];
    const DropoutMask mask(step_values->seed, layer, step_values->epoch, position);
    const int64_t at = int64_t{i} * kWidth;
    float values[kWidth];
    LoadVector<kWidth>(from + at, values);
    if constexpr (kWidth == 1) {
      const RandomWords words = mask.UncheckedWords(element / 4);
      Apply(words[static_cast<size_t>(element % 4)], values[0]);
    } else {
      for (int k = 0; k < kWidth; k += 4) {
        const RandomWords words = mask.UncheckedWords((element + k) / 4);
        for (int j = 0; j < 4; ++j) Apply(words[static_cast<size_t>(j)], values[k + j]);
      }
    }
    StoreVector<kWidth>(values, to + at);
  }

  CONVOY_HOST_DEVICE void Apply(uint32_t draw, float& value) const {
    value *= draw >= threshold ? kept : 0;
  }
};

// y is zero if the value was dropped or the ReLU before gave zero.
template <typename T, int kWidth>
struct BehindReluKernel {
  const T* y;
  const T* dy;
  T* dx;
  float kept;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const int64_t at = int64_t{i} * kWidth;
    float outputs[kWidth], values[kWidth];
    LoadVector<kWidth>(y + at, outputs);
    LoadVector<kWidth>(dy + at, values);
    for (int k = 0; k < kWidth; ++k) values[k] = outputs[k] > 0 ? values[k] * kept : 0;
    StoreVector<kWidth>(values, dx + at);
  }
};

template <typename T, int kWidth>
struct ScaleKernel {
  const T* from;
  T* to;
  float factor;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const int64_t at = int64_t{i} * kWidth;
    float values[kWidth];
    LoadVector<kWidth>(from + at, values);
    for (float& value : values) value *= factor;
    StoreVector<kWidth>(values, to + at);
  }
};

template <typename T>
class DropoutOperation final : public Operation {
 public:
  DropoutOperation(const Dropout& dropout, const Wiring& wiring,
                   const OperationResources& resources)
      : dropout_(dropout),
        wiring_(wiring),
        step_values_(resources.step_values),
        count_(wiring.x.count()),
        row_count_(wiring.x.shape.DropFirst().count()),
        slice_(wiring.item.output) {
    CheckedCount(count_);
    // Rows of an uncut activation are one run of elements.
    if (slice_.count == slice_.total)
      slice_ = {.begin = 0, .count = row_count_, .total = row_count_};
  }

  void Forward(const StepContext& context) override {
    if (context.training) {
      Draw(context, wiring_.x, wiring_.y);
    } else {
      Scale(*context.stream, KeptFactor(false));
    }
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    if (!wiring_.mask_dx) return Draw(context, wiring_.dy, wiring_.dx);
    ForWidth<T>(count_, [&](auto width) {
      ForEach(*context.stream, count_ / width,
              BehindReluKernel<T, decltype(width)::value>{.y = wiring_.y.As<T>(),
                                                          .dy = wiring_.dy.As<T>(),
                                                          .dx = wiring_.dx.As<T>(),
                                                          .kept = KeptFactor(true)});
    });
  }

 private:
  float KeptFactor(bool training) const {
    const double keep_rate = 1 - dropout_.rate;
    const bool inverted = dropout_.form == DropoutForm::kInverted;
    if (training) return static_cast<float>(inverted ? 1 / keep_rate : 1);
    return static_cast<float>(inverted ? 1 : keep_rate);
  }

  void Draw(const StepContext& context, const Tensor& from, const Tensor& to) const {
    // A vector is whole blocks of draws if it divides all three.
    ForWidth<T>(slice_.begin | slice_.count | slice_.total, [&](auto width) {
      ForEach(
          *context.stream, count_ / width,
          DrawKernel<T, decltype(width)::value>{.from = from.As<T>(),
                                                .to = to.As<T>(),
                                                .step_values = step_values_,
                                                .positions = context.rows.positions.As<int64_t>(),
                                                .layer = wiring_.item.uncut_index,
                                                .threshold = DropoutMask::Threshold(dropout_.rate),
                                                .kept = KeptFactor(true),
                                                .row_vectors = Divider(row_count_ / width),
                                                .slice_vectors = Divider(slice_.count / width),
                                                .slice_begin = slice_.begin,
                                                .slice_total = slice_.total});
    });
  }

  void Scale(Stream& stream, float factor) const {
    if (factor == 1 && wiring_.x.data == wiring_.y.data) return;
    ForWidth<T>(count_, [&](auto width) {
      ForEach(stream, count_ / width,
              ScaleKernel<T, decltype(width)::value>{
                  .from = wiring_.x.As<T>(), .to = wiring_.y.As<T>(), .factor = factor});
    });
  }

  Dropout dropout_;
  Wiring wiring_;
  const StepValues* step_values_;
  int64_t count_, row_count_;
  ChannelSlice slice_;
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Dropout& dropout, const Wiring& wiring,
                                         const OperationResources& resources) {
  return ForType(wiring.x.dtype, [&](auto type) -> std::unique_ptr<Operation> {
    return std::make_unique<DropoutOperation<decltype(type)>>(dropout, wiring, resources);
  });
}

}  // namespace convoy::cuda
