// Average pooling over windows of any kind.
#include <omp.h>

#include <algorithm>
#include <vector>

#include "layers/cpu/numbers.h"
#include "layers/cpu/operation.h"
#include "layers/operations/windows.h"

namespace convoy::cpu {
namespace {

template <typename T>
class AveragePoolOperation final : public Operation {
 public:
  AveragePoolOperation(WindowAxis rows, WindowAxis columns, const Wiring& wiring)
      : wiring_(wiring),
        rows_(std::move(rows)),
        columns_(std::move(columns)),
        channels_(wiring.x.shape[3]) {
    for (int thread = 0; thread < wiring.threads; ++thread) {
      sums_.push_back(AllocateHost(channels_ * SizeOf(DType::kFloat32)));
    }
  }

  void Forward(const StepContext&) override {
    ForEachPlace(wiring_.y, [&](int64_t image, int64_t oh, int64_t ow, float* sum) {
      const Window& row = rows_.windows[static_cast<size_t>(oh)];
      const Window& column = columns_.windows[static_cast<size_t>(ow)];
      for (int64_t h = row.begin; h < row.end; ++h) {
        for (int64_t w = column.begin; w < column.end; ++w) {
          Add(At(wiring_.x, image, h, w), 1, sum);
        }
      }
      Finish(sum, 1 / (row.divisor * column.divisor), At(wiring_.y, image, oh, ow));
    });
  }

  // Every place of x gathers from the windows that cover it, so that threads share nothing.
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (!request.wants_dx) return;
    const PhaseTimer timer(context, wiring_.name, "backward");
    ForEachPlace(wiring_.x, [&](int64_t image, int64_t h, int64_t w, float* sum) {
      const Covering& rows = rows_.coverings[static_cast<size_t>(h)];
      const Covering& columns = columns_.coverings[static_cast<size_t>(w)];
      for (int64_t oh = rows.first; oh < rows.end; ++oh) {
        for (int64_t ow = columns.first; ow < columns.end; ++ow) {
          const float divisor = rows_.windows[static_cast<size_t>(oh)].divisor *
                                columns_.windows[static_cast<size_t>(ow)].divisor;
          Add(At(wiring_.dy, image, oh, ow), 1 / divisor, sum);
        }
      }
      Finish(sum, 1, At(wiring_.dx, image, h, w));
    });
  }

 private:
  T* At(const Tensor& tensor, int64_t image, int64_t h, int64_t w) const {
    const Shape& shape = tensor.shape;
    return static_cast<T*>(tensor.data) + ((image * shape[1] + h) * shape[2] + w) * channels_;
  }

  void Add(const T* from, float factor, float* sum) const {
#pragma omp simd
    for (int64_t c = 0; c < channels_; ++c) sum[c] += Load(from + c) * factor;
  }
  void Finish(const float* sum, float factor, T* to) const {
#pragma omp simd
    for (int64_t c = 0; c < channels_; ++c) Store(sum[c] * factor, to + c);
  }

  // work(image, h, w, zeroed room for the channels' sums) for every place of `tensor`, in parallel.
  template <typename Work>
  void ForEachPlace(const Tensor& tensor, Work&& work) const {
    const int64_t height = tensor.shape[1], width = tensor.shape[2];
    const int64_t lines = tensor.shape[0] * height;
#pragma omp parallel for num_threads(wiring_.threads) schedule(static)
    for (int64_t line = 0; line < lines; ++line) {
      const auto thread = static_cast<size_t>(omp_get_thread_num());
      auto* sum = static_cast<float*>(sums_[thread].data());
      for (int64_t w = 0; w < width; ++w) {
        std::fill_n(sum, channels_, 0.0f);
        work(line / height, line % height, w, sum);
      }
    }
  }

  Wiring wiring_;
  WindowAxis rows_, columns_;
  int64_t channels_;
  std::vector<Buffer> sums_;  // per thread
};

std::unique_ptr<Operation> Make(const WindowAxis& rows, const WindowAxis& columns,
                                const Wiring& wiring) {
  return MakeForType<AveragePoolOperation>(wiring.x.dtype, rows, columns, wiring);
}

}  // namespace

std::unique_ptr<Operation> MakeAveragePool(const Pool& pool, const Wiring& wiring) {
  const Shape &x = wiring.x.shape, &y = wiring.y.shape;
  return Make(PoolWindows(pool, Axis::kHeight, x[1], y[1]),
              PoolWindows(pool, Axis::kWidth, x[2], y[2]), wiring);
}

std::unique_ptr<Operation> MakeOperation(const AdaptiveAveragePool&, const Wiring& wiring,
                                         OneDnn&) {
  const Shape &x = wiring.x.shape, &y = wiring.y.shape;
  return Make(AdaptiveWindows(x[1], y[1]), AdaptiveWindows(x[2], y[2]), wiring);
}

}  // namespace convoy::cpu
