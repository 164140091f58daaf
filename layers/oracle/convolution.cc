#include <algorithm>

#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

class OracleConvolution final : public OracleLayer {
 public:
  OracleConvolution(const Convolution& conv, const Site& site)
      : conv_(conv),
        site_(site),
        in_per_group_(site.x[3] / conv.groups),
        out_per_group_(conv.out_channels / conv.groups) {}

  void Forward(const StepContext&, const double* x, double* y) override {
    const int64_t places = site_.y[1] * site_.y[2], channels = site_.y[3];
#pragma omp parallel for num_threads(site_.threads) collapse(2) schedule(static)
    for (int64_t n = 0; n < site_.y[0]; ++n) {
      for (int64_t place = 0; place < places; ++place) {
        double* out = y + (n * places + place) * channels;
        for (int64_t o = 0; o < channels; ++o) {
          double sum = site_.bias ? site_.bias[o] : 0;
          ForEachTap(n, place, o, [&](int64_t x_at, int64_t w_at) {
            const double* a = x + x_at;
            const double* b = site_.weight + w_at;
            double dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t i = 0; i < in_per_group_; ++i) dot += a[i] * b[i];
            sum += dot;
          });
          out[o] = sum;
        }
      }
    }
  }

  void Backward(const StepContext& context, bool learns, const double* x, const double*,
                const double* dy, double* dx) override {
    if (learns) WeightGradient(x, dy, context.adds_gradients);
    if (dx != nullptr) DataGradient(dy, dx);
  }

 private:
  // Calls tap(x_offset, w_offset) for every kernel place inside the image: there lie in_per_group_
  // channels of the image and of kernel `o`, contiguous.
  template <typename Tap>
  void ForEachTap(int64_t n, int64_t place, int64_t o, Tap&& tap) const {
    const int64_t height = site_.x[1], width = site_.x[2], channels = site_.x[3];
    const int64_t top = place / site_.y[2] * conv_.stride - conv_.padding.top;
    const int64_t left = place % site_.y[2] * conv_.stride - conv_.padding.left;
    const int64_t first_channel = o / out_per_group_ * in_per_group_;
    for (int64_t kh = 0; kh < conv_.kernel; ++kh) {
      const int64_t h = top + kh;
      if (h < 0 || h >= height) continue;
      for (int64_t kw = 0; kw < conv_.kernel; ++kw) {
        const int64_t w = left + kw;
        if (w < 0 || w >= width) continue;
        tap(((n * height + h) * width + w) * channels + first_channel,
            ((o * conv_.kernel + kh) * conv_.kernel + kw) * in_per_group_);
      }
    }
  }

  void WeightGradient(const double* x, const double* dy, bool adds) {
    const int64_t places = site_.y[1] * site_.y[2], channels = site_.y[3];
    const int64_t kernel_size = conv_.kernel * conv_.kernel * in_per_group_;
#pragma omp parallel for num_threads(site_.threads) schedule(static)
    for (int64_t o = 0; o < channels; ++o) {
      double* dw = site_.weight_gradient;
      if (!adds) std::fill_n(dw + o * kernel_size, kernel_size, 0.0);
      double bias_sum = 0;
      for (int64_t n = 0; n < site_.y[0]; ++n) {
        for (int64_t place = 0; place < places; ++place) {
          const double g = dy[(n * places + place) * channels + o];
          bias_sum += g;
          if (g == 0) continue;
          ForEachTap(n, place, o, [&](int64_t x_at, int64_t w_at) {
            for (int64_t i = 0; i < in_per_group_; ++i) dw[w_at + i] += g * x[x_at + i];
          });
        }
      }
      if (site_.bias_gradient) {
        site_.bias_gradient[o] = bias_sum + (adds ? site_.bias_gradient[o] : 0);
      }
    }
  }

  void DataGradient(const double* dy, double* dx) {
    const int64_t places = site_.y[1] * site_.y[2], channels = site_.y[3];
    const int64_t image = site_.x.DropFirst().count();
#pragma omp parallel for num_threads(site_.threads) schedule(static)
    for (int64_t n = 0; n < site_.y[0]; ++n) {
      std::fill_n(dx + n * image, image, 0.0);
      for (int64_t place = 0; place < places; ++place) {
        for (int64_t o = 0; o < channels; ++o) {
          const double g = dy[(n * places + place) * channels + o];
          if (g == 0) continue;
          ForEachTap(n, place, o, [&](int64_t x_at, int64_t w_at) {
            for (int64_t i = 0; i < in_per_group_; ++i) {
              dx[x_at + i] += g * site_.weight[w_at + i];
            }
          });
        }
      }
    }
  }

  Convolution conv_;
  Site site_;
  int64_t in_per_group_, out_per_group_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const Convolution& conv, const Site& site) {
  return std::make_unique<OracleConvolution>(conv, site);
}

}  // namespace convoy::oracle
