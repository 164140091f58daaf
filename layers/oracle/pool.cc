#include <algorithm>
#include <limits>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

// Places [top, bottom) x [left, right) of the image, and the number that an average divides by.
struct Window {
  int64_t top, bottom, left, right;
  double divisor;
};

class OraclePool final : public OracleLayer {
 public:
  OraclePool(const Pool& pool, const Site& site) : pool_(pool), site_(site) {}

  void Forward(const StepContext&, const double* x, double* y) override {
    ForEachWindow([&](const Window& window, int64_t image, int64_t out) {
      if (pool_.kind == PoolKind::kMax) {
        y[out] = x[MaximumOf(window, image, x)];
      } else {
        double sum = 0;
        ForEachPlace(window, image, [&](int64_t i) { sum += x[i]; });
        y[out] = sum / window.divisor;
      }
    });
  }

  void Backward(const StepContext&, bool, const double* x, const double*, const double* dy,
                double* dx) override {
    if (dx == nullptr) return;
    std::fill_n(dx, site_.x.count(), 0.0);
    ForEachWindow([&](const Window& window, int64_t image, int64_t out) {
      if (pool_.kind == PoolKind::kMax) {
        dx[MaximumOf(window, image, x)] += dy[out];
      } else {
        ForEachPlace(window, image, [&](int64_t i) { dx[i] += dy[out] / window.divisor; });
      }
    });
  }

 private:
  // One axis of a window, cut to the image; `padded` is its length inside the padded image.
  struct Extent {
    int64_t begin, end, padded;
  };
  Extent ExtentOf(int64_t index, int64_t size, int before, int after) const {
    const int64_t begin = index * pool_.stride - before;
    const int64_t end = std::min<int64_t>(begin + pool_.kernel, size + after);
    return {std::max<int64_t>(begin, 0), std::min(end, size), end - begin};
  }

  // visit(window, offset of image and channel in x, offset in y)
  template <typename Visit>
  void ForEachWindow(Visit&& visit) const {
    const Shape &x = site_.x, &y = site_.y;
    for (int64_t n = 0; n < y[0]; ++n) {
      for (int64_t oh = 0; oh < y[1]; ++oh) {
        const Extent h = ExtentOf(oh, x[1], pool_.padding.top, pool_.padding.bottom);
        for (int64_t ow = 0; ow < y[2]; ++ow) {
          const Extent w = ExtentOf(ow, x[2], pool_.padding.left, pool_.padding.right);
          const int64_t divisor = pool_.divisor == AverageDivisor::kIncludePadding
                                      ? h.padded * w.padded
                                      : (h.end - h.begin) * (w.end - w.begin);
          const Window window{h.begin, h.end, w.begin, w.end, static_cast<double>(divisor)};
          for (int64_t c = 0; c < y[3]; ++c) {
            visit(window, n * x[1] * x[2] * x[3] + c, ((n * y[1] + oh) * y[2] + ow) * y[3] + c);
          }
        }
      }
    }
  }

  template <typename Visit>
  void ForEachPlace(const Window& window, int64_t image, Visit&& visit) const {
    for (int64_t h = window.top; h < window.bottom; ++h) {
      for (int64_t w = window.left; w < window.right; ++w) {
        visit(image + (h * site_.x[2] + w) * site_.x[3]);
      }
    }
  }

  // Returns the first place, row by row, that holds the largest value.
  int64_t MaximumOf(const Window& window, int64_t image, const double* x) const {
    double best = -std::numeric_limits<double>::infinity();
    int64_t place = image + (window.top * site_.x[2] + window.left) * site_.x[3];
    ForEachPlace(window, image, [&](int64_t i) {
      if (x[i] > best) {
        best = x[i];
        place = i;
      }
    });
    return place;
  }

  Pool pool_;
  Site site_;
};

class OracleAdaptiveAveragePool final : public OracleLayer {
 public:
  explicit OracleAdaptiveAveragePool(const Site& site) : site_(site) {}

  void Forward(const StepContext&, const double* x, double* y) override {
    std::fill_n(y, site_.y.count(), 0.0);
    ForEachPair([&](int64_t in, int64_t out, double share) { y[out] += x[in] * share; });
  }

  void Backward(const StepContext&, bool, const double*, const double*, const double* dy,
                double* dx) override {
    if (dx == nullptr) return;
    std::fill_n(dx, site_.x.count(), 0.0);
    ForEachPair([&](int64_t in, int64_t out, double share) { dx[in] += dy[out] * share; });
  }

 private:
  // visit(index in x, index in y, 1 / places of the window)
  template <typename Visit>
  void ForEachPair(Visit&& visit) const {
    const Shape &x = site_.x, &y = site_.y;
    const auto first = [](int64_t i, int64_t in, int64_t out) { return i * in / out; };
    const auto end = [](int64_t i, int64_t in, int64_t out) {
      return ((i + 1) * in + out - 1) / out;
    };
    for (int64_t n = 0; n < y[0]; ++n) {
      for (int64_t oh = 0; oh < y[1]; ++oh) {
        for (int64_t ow = 0; ow < y[2]; ++ow) {
          const int64_t h0 = first(oh, x[1], y[1]), h1 = end(oh, x[1], y[1]);
          const int64_t w0 = first(ow, x[2], y[2]), w1 = end(ow, x[2], y[2]);
          const double share = 1.0 / static_cast<double>((h1 - h0) * (w1 - w0));
          for (int64_t h = h0; h < h1; ++h) {
            for (int64_t w = w0; w < w1; ++w) {
              for (int64_t c = 0; c < y[3]; ++c) {
                visit(((n * x[1] + h) * x[2] + w) * x[3] + c,
                      ((n * y[1] + oh) * y[2] + ow) * y[3] + c, share);
              }
            }
          }
        }
      }
    }
  }

  Site site_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const Pool& pool, const Site& site) {
  return std::make_unique<OraclePool>(pool, site);
}

std::unique_ptr<OracleLayer> Make(const AdaptiveAveragePool&, const Site& site) {
  return std::make_unique<OracleAdaptiveAveragePool>(site);
}

}  // namespace convoy::oracle
