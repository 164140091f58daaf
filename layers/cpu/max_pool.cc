// Max pooling, with LRN before it in the same pass if a network has the two in a row. Forward
// keeps the place of each maximum in its window; it keeps no LRN output: the rows that the windows
// read stand in a ring, and backward computes the normalisation again.
//
// Memory per value, fp32, AlexNet's 3 x 3 windows with stride 2: forward reads x once and writes a
// quarter of it; backward reads x and writes dx once.
#include <omp.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "layers/cpu/lrn_kernel.h"
#include "layers/cpu/operation.h"
#include "layers/operations/activation_layout.h"
#include "layers/operations/windows.h"

namespace convoy::cpu {
namespace {

// The place of a maximum in its window: (h - start) * kernel + (w - start).
using Tap = MaximumPlace;

// The maxima of one window of kSize x kSize places whose rows start at `rows`, for every channel,
// and the first tap, row by row, that has each.
template <int kSize, typename T>
void MaximaOf(const float* const* rows, int64_t offset, int64_t channels, T* y, Tap* taps) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    float best = rows[0][offset + c];
    int32_t tap = 0;
    for (int r = 0; r < kSize; ++r) {
      for (int k = 0; k < kSize; ++k) {
        const float value = rows[r][offset + k * channels + c];
        const bool better = value > best;
        best = better ? value : best;
        tap = better ? r * kSize + k : tap;
      }
    }
    Store(best, y + c);
    taps[c] = static_cast<Tap>(tap);
  }
}

template <typename T>
class MaxPoolOperation final : public Operation {
 public:
  MaxPoolOperation(const Pool& pool, const Wiring& wiring)
      : wiring_(wiring),
        kernel_(pool.kernel),
        rows_(PoolWindows(pool, Axis::kHeight, wiring.x.shape[1], wiring.y.shape[1])),
        columns_(PoolWindows(pool, Axis::kWidth, wiring.x.shape[2], wiring.y.shape[2])),
        x_(wiring.x.As<T>()),
        y_(wiring.y.As<T>()),
        images_(wiring.x.shape[0]),
        height_(wiring.x.shape[1]),
        width_(wiring.x.shape[2]),
        channels_(wiring.x.shape[3]),
        out_height_(wiring.y.shape[1]),
        out_width_(wiring.y.shape[2]),
        taps_(AllocateHost(wiring.y.count() * static_cast<int64_t>(sizeof(Tap)))) {
    if (wiring.dx) {
      dy_ = wiring.dy.As<T>();
      dx_ = wiring.dx.As<T>();
    }
    CONVOY_CHECK(kernel_ * kernel_ <= UINT16_MAX, "kernel {}", kernel_);
    if (wiring.lrn) lrn_.emplace(*wiring.lrn, channels_);
    const int64_t lrn_count = lrn_ ? lrn_->scratch_count() : 0;
    for (int thread = 0; thread < wiring.threads; ++thread) {
      Scratch scratch;
      scratch.memory = AllocateHost((kernel_ * width_ * channels_ + channels_ + lrn_count) *
                                    SizeOf(DType::kFloat32));
      scratch.ring = static_cast<float*>(scratch.memory.data());
      scratch.values = scratch.ring + kernel_ * width_ * channels_;
      scratch.lrn = scratch.values + channels_;
      scratch.window.resize(static_cast<size_t>(kernel_));
      scratch_.push_back(std::move(scratch));
    }
  }

  void Forward(const StepContext&) override {
    ForEachPart(out_height_, [&](int64_t image, const Part& part, Scratch& scratch) {
      int64_t next_row = 0;  // of x, not yet in the ring
      for (int64_t oh = part.begin; oh < part.end; ++oh) {
        const Window& window = rows_.windows[static_cast<size_t>(oh)];
        for (int64_t h = std::max(next_row, window.begin); h < window.end; ++h) {
          PrepareRow(image, h, scratch);
        }
        next_row = std::max(next_row, window.end);
        for (int64_t h = window.begin; h < window.end; ++h) {
          scratch.window[static_cast<size_t>(h - window.begin)] = RowOf(image, h, scratch);
        }
        const int64_t out = (image * out_height_ + oh) * out_width_ * channels_;
        PoolRow(window, scratch, y_ + out, taps() + out);
      }
    });
  }

  // Every place of x gathers from the windows that cover it, so that threads share nothing.
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    ForEachPart(height_, [&](int64_t image, const Part& part, Scratch& scratch) {
      for (int64_t h = part.begin; h < part.end; ++h) {
        for (int64_t w = 0; w < width_; ++w) {
          GatherGradient(image, h, w, scratch.values);
          const int64_t offset = ((image * height_ + h) * width_ + w) * channels_;
          FinishGradient(x_ + offset, scratch, dx_ + offset);
        }
      }
    });
  }

 private:
  static constexpr bool kIsFloat = std::is_same_v<T, float>;

  // One thread's own memory.
  struct Scratch {
    Buffer memory;
    float* ring = nullptr;             // `kernel` rows of x, row h in slot h % kernel
    float* values = nullptr;           // one place
    float* lrn = nullptr;              // LrnKernel's
    std::vector<const float*> window;  // the rows of a window
  };

  // work(image, rows of the image, scratch) in parallel: whole images, or parts of them if there
  // are fewer images than threads.
  template <typename Work>
  void ForEachPart(int64_t height, Work&& work) {
    const int64_t threads = wiring_.threads;
    const int64_t parts = images_ >= threads ? 1 : (threads + images_ - 1) / images_;
#pragma omp parallel num_threads(wiring_.threads)
    {
      Scratch& scratch = scratch_[static_cast<size_t>(omp_get_thread_num())];
#pragma omp for schedule(static)
      for (int64_t i = 0; i < images_ * parts; ++i) {
        const Part part = PartOf(height, static_cast<int>(i % parts), static_cast<int>(parts));
        work(i / parts, part, scratch);
      }
    }
  }

  Tap* taps() const { return static_cast<Tap*>(taps_.data()); }
  // Without LRN, rows of fp32 are read in place.
  bool NeedsRing() const { return lrn_.has_value() || !kIsFloat; }
  const T* InputRow(int64_t image, int64_t h) const {
    return x_ + (image * height_ + h) * width_ * channels_;
  }
  const float* RowOf(int64_t image, int64_t h, const Scratch& scratch) const {
    if constexpr (kIsFloat) {
      if (!NeedsRing()) return InputRow(image, h);
    }
    return scratch.ring + h % kernel_ * width_ * channels_;
  }

  void PrepareRow(int64_t image, int64_t h, const Scratch& scratch) const {
    if (!NeedsRing()) return;
    const T* x = InputRow(image, h);
    float* row = scratch.ring + h % kernel_ * width_ * channels_;
    if (lrn_) {
      for (int64_t w = 0; w < width_; ++w) {
        lrn_->Forward(x + w * channels_, row + w * channels_, scratch.lrn);
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < width_ * channels_; ++i) row[i] = Load(x + i);
    }
  }

  void PoolRow(const Window& row, const Scratch& scratch, T* y, Tap* taps) const {
    for (size_t ow = 0; ow < columns_.windows.size(); ++ow) {
      const Window& column = columns_.windows[ow];
      const auto out = static_cast<int64_t>(ow) * channels_;
      const float* const* rows = scratch.window.data();
      const bool is_whole = row.end - row.begin == kernel_ && column.end - column.begin == kernel_;
      if (is_whole && kernel_ == 3) {
        MaximaOf<3>(rows, column.begin * channels_, channels_, y + out, taps + out);
      } else if (is_whole && kernel_ == 2) {
        MaximaOf<2>(rows, column.begin * channels_, channels_, y + out, taps + out);
      } else {
        MaximaOfAny(row, column, scratch, y + out, taps + out);
      }
    }
  }

  void MaximaOfAny(const Window& row, const Window& column, const Scratch& scratch, T* y,
                   Tap* taps) const {
    float* best = scratch.values;
    const auto tap_of = [&](int64_t h, int64_t w) {
      return static_cast<Tap>((h - row.start) * kernel_ + w - column.start);
    };
    const float* first = scratch.window[0] + column.begin * channels_;
    std::copy_n(first, channels_, best);
    std::fill_n(taps, channels_, tap_of(row.begin, column.begin));
    for (int64_t h = row.begin; h < row.end; ++h) {
      for (int64_t w = column.begin; w < column.end; ++w) {
        const float* in = scratch.window[static_cast<size_t>(h - row.begin)] + w * channels_;
        const Tap tap = tap_of(h, w);
#pragma omp simd
        for (int64_t c = 0; c < channels_; ++c) {
          const bool better = in[c] > best[c];
          best[c] = better ? in[c] : best[c];
          taps[c] = better ? tap : taps[c];
        }
      }
    }
#pragma omp simd
    for (int64_t c = 0; c < channels_; ++c) Store(best[c], y + c);
  }

  // gradient[c] = the sum of dy over the windows whose maximum is at (h, w).
  void GatherGradient(int64_t image, int64_t h, int64_t w, float* gradient) const {
    std::fill_n(gradient, channels_, 0.0f);
    const Covering& rows = rows_.coverings[static_cast<size_t>(h)];
    const Covering& columns = columns_.coverings[static_cast<size_t>(w)];
    for (int64_t oh = rows.first; oh < rows.end; ++oh) {
      for (int64_t ow = columns.first; ow < columns.end; ++ow) {
        const int64_t in_row = h - rows_.windows[static_cast<size_t>(oh)].start;
        const int64_t in_column = w - columns_.windows[static_cast<size_t>(ow)].start;
        const auto tap = static_cast<Tap>(in_row * kernel_ + in_column);
        const int64_t out = ((image * out_height_ + oh) * out_width_ + ow) * channels_;
        const T* dy = dy_ + out;
        const Tap* maximum = taps() + out;
#pragma omp simd
        for (int64_t c = 0; c < channels_; ++c) {
          gradient[c] += ZeroUnless(maximum[c] == tap, Load(dy + c));
        }
      }
    }
  }

  void FinishGradient(const T* x, const Scratch& scratch, T* dx) const {
    const float* gradient = scratch.values;
    if (lrn_) {
      lrn_->Backward(x, gradient, dx, wiring_.mask_dx, scratch.lrn);
    } else {
      const bool mask = wiring_.mask_dx;
#pragma omp simd
      for (int64_t c = 0; c < channels_; ++c) {
        Store(ZeroUnless((Load(x + c) > 0) | !mask, gradient[c]), dx + c);
      }
    }
  }

  Wiring wiring_;
  int64_t kernel_;
  WindowAxis rows_, columns_;
  const T* x_;
  T* y_;
  const T* dy_ = nullptr;
  T* dx_ = nullptr;
  int64_t images_, height_, width_, channels_, out_height_, out_width_;
  std::optional<LrnKernel> lrn_;
  Buffer taps_;
  std::vector<Scratch> scratch_;
};

}  // namespace

std::unique_ptr<Operation> MakeMaxPool(const Pool& pool, const Wiring& wiring) {
  return MakeForType<MaxPoolOperation>(wiring.x.dtype, pool, wiring);
}

}  // namespace convoy::cpu
