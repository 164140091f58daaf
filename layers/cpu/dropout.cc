// Dropout. No mask is kept: after a ReLU the output's zeros are the mask, elsewhere backward draws
// it again.
#include <algorithm>

#include "layers/cpu/numbers.h"
#include "layers/cpu/operation.h"
#include "layers/operations/dropout_mask.h"

namespace convoy::cpu {
namespace {

// Draws that are made at a time.
constexpr int64_t kBatch = 1024;

template <typename T>
class DropoutOperation final : public Operation {
 public:
  DropoutOperation(const Dropout& dropout, const Wiring& wiring)
      : dropout_(dropout),
        wiring_(wiring),
        rows_(wiring.x.shape[0]),
        row_count_(wiring.x.shape.DropFirst().count()) {}

  void Forward(const StepContext& context) override {
    Multiply(context, wiring_.x.As<T>(), wiring_.y.As<T>());
  }

  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    if (wiring_.mask_dx) {
      BackwardBehindRelu();
    } else {
      Multiply(context, wiring_.dy.As<T>(), wiring_.dx.As<T>());
    }
  }

 private:
  // What a kept value is multiplied by.
  float KeptFactor(bool training) const {
    const double keep_rate = 1 - dropout_.rate;
    const bool inverted = dropout_.form == DropoutForm::kInverted;
    if (training) return static_cast<float>(inverted ? 1 / keep_rate : 1);
    return static_cast<float>(inverted ? 1 : keep_rate);
  }

  void Multiply(const StepContext& context, const T* from, T* to) const {
    const float kept = KeptFactor(context.training);
    if (!context.training) {
      const int64_t count = rows_ * row_count_;
#pragma omp parallel for simd num_threads(wiring_.threads) schedule(static)
      for (int64_t i = 0; i < count; ++i) Store(Load(from + i) * kept, to + i);
      return;
    }
    const int64_t* positions = context.rows.positions.As<int64_t>();
#pragma omp parallel for num_threads(wiring_.threads) schedule(static)
    for (int64_t n = 0; n < rows_; ++n) {
      // Padding rows (position -1) have no draws; what they hold is never used.
      const DropoutMask mask(context.seed, wiring_.item.uncut_index, context.epoch,
                             positions[n] < 0 ? 0 : positions[n]);
      MultiplyRow(mask, kept, from + n * row_count_, to + n * row_count_);
    }
  }

  // The channels of one place are neighbours in the uncut tensor too. Draws are made in batches.
  void MultiplyRow(const DropoutMask& mask, float kept, const T* from, T* to) const {
    const ChannelSlice& slice = wiring_.item.output;
    const int64_t places = row_count_ / slice.count;
    for (int64_t place = 0; place < places; ++place) {
      const int64_t first = place * slice.total + slice.begin;
      for (int64_t c = 0; c < slice.count;) {
        const int64_t skipped = (first + c) % 4;
        const int64_t count = std::min(slice.count - c, kBatch - skipped);
        MultiplyBatch(mask, kept, (first + c) / 4, skipped, count, from + c, to + c);
        c += count;
      }
      from += slice.count;
      to += slice.count;
    }
  }

  // `count` values, the first of which has draw `skipped` of block `first_block`.
  void MultiplyBatch(const DropoutMask& mask, float kept, int64_t first_block, int64_t skipped,
                     int64_t count, const T* from, T* to) const {
    uint32_t words[kBatch];
    mask.FillWords(first_block, (skipped + count + 3) / 4, words);
    const uint32_t threshold = DropoutMask::Threshold(dropout_.rate);
    const uint32_t* draws = words + skipped;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      Store(Load(from + i) * ZeroUnless(draws[i] >= threshold, kept), to + i);
    }
  }

  // y is zero if the value was dropped or the ReLU before gave zero.
  void BackwardBehindRelu() const {
    const float kept = KeptFactor(true);
    const T* y = wiring_.y.As<T>();
    const T* dy = wiring_.dy.As<T>();
    T* dx = wiring_.dx.As<T>();
    const int64_t count = rows_ * row_count_;
#pragma omp parallel for simd num_threads(wiring_.threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) {
      Store(ZeroUnless(Load(y + i) > 0, Load(dy + i) * kept), dx + i);
    }
  }

  Dropout dropout_;
  Wiring wiring_;
  int64_t rows_, row_count_;
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Dropout& dropout, const Wiring& wiring, OneDnn&) {
  return MakeForType<DropoutOperation>(wiring.x.dtype, dropout, wiring);
}

}  // namespace convoy::cpu
