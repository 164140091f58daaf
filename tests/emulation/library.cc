// The vendor's products played by plain loops that sum in double.
#include "layers/cuda/products/library.h"

#include <utility>
#include <vector>

#include "layers/cuda/kernels/launch.h"
#include "layers/cuda/kernels/numbers.h"

namespace convoy::cuda {
namespace {

double At(const Tensor& tensor, int64_t i) {
  if (tensor.dtype == DType::kBFloat16) {
    return static_cast<double>(static_cast<float>(tensor.As<BFloat16>()[i]));
  }
  return static_cast<double>(tensor.As<float>()[i]);
}

void Set(const Tensor& tensor, int64_t i, double value) {
  const auto number = static_cast<float>(value);
  if (tensor.dtype == DType::kBFloat16) {
    tensor.As<BFloat16>()[i] = BFloat16(number);
  } else {
    tensor.As<float>()[i] = number;
  }
}

class Loops final : public BoundProduct {
 public:
  // `work`: told whether to add to the result; `can_add`: whether it may be.
  Loops(std::function<void(bool adds)> work, bool can_add)
      : work_(std::move(work)), can_add_(can_add) {}
  void Run(Stream& stream) override {
    Enqueue(stream, [work = work_] { work(false); });
  }
  void RunAdding(Stream& stream) override {
    CONVOY_CHECK(can_add_, "this product was not made to add to its result");
    Enqueue(stream, [work = work_] { work(true); });
  }

 private:
  std::function<void(bool adds)> work_;
  bool can_add_;
};

// visit(index into y, index into x, index into the weights) for every multiply-add.
template <typename Visit>
void ForEachMultiplyAdd(const Convolution& conv, const Shape& x, const Shape& y, Visit&& visit) {
  const int64_t in_group = x[3] / conv.groups, out_group = y[3] / conv.groups;
  for (int64_t n = 0; n < y[0]; ++n) {
    for (int64_t oh = 0; oh < y[1]; ++oh) {
      for (int64_t ow = 0; ow < y[2]; ++ow) {
        for (int64_t kh = 0; kh < conv.kernel; ++kh) {
          const int64_t h = oh * conv.stride - conv.padding.top + kh;
          if (h < 0 || h >= x[1]) continue;
          for (int64_t kw = 0; kw < conv.kernel; ++kw) {
            const int64_t w = ow * conv.stride - conv.padding.left + kw;
            if (w < 0 || w >= x[2]) continue;
            for (int64_t o = 0; o < y[3]; ++o) {
              const int64_t out = ((n * y[1] + oh) * y[2] + ow) * y[3] + o;
              const int64_t in = ((n * x[1] + h) * x[2] + w) * x[3] + o / out_group * in_group;
              const int64_t weight = ((o * conv.kernel + kh) * conv.kernel + kw) * in_group;
              for (int64_t i = 0; i < in_group; ++i) visit(out, in + i, weight + i);
            }
          }
        }
      }
    }
  }
}

// y = sums + bias, and the ReLU.
void Finish(const std::vector<double>& sums, const Tensor& bias, bool relu, const Tensor& y) {
  const int64_t channels = y.shape.back();
  for (int64_t i = 0; i < y.count(); ++i) {
    double value = sums[static_cast<size_t>(i)];
    if (bias) value += At(bias, i % channels);
    Set(y, i, relu && value < 0 ? 0 : value);
  }
}

void WriteMasked(const std::vector<double>& sums, const Tensor& x, bool mask, const Tensor& dx) {
  for (int64_t i = 0; i < dx.count(); ++i) {
    Set(dx, i, mask && At(x, i) <= 0 ? 0 : sums[static_cast<size_t>(i)]);
  }
}

void WriteGradient(const std::vector<double>& sums, bool adds, const Tensor& gradient) {
  for (int64_t i = 0; i < gradient.count(); ++i) {
    Set(gradient, i, sums[static_cast<size_t>(i)] + (adds ? At(gradient, i) : 0));
  }
}

std::vector<double> ZerosLike(const Tensor& tensor) {
  return std::vector<double>(static_cast<size_t>(tensor.count()));
}

class LoopLibrary final : public Library {
 public:
  explicit LoopLibrary(const CudaOptions& options) : choices_(options.kernel_choices) {}

  std::string Describe() const override { return "plain loops"; }

  std::unique_ptr<BoundProduct> MakeConvolution(ProductPass pass, const Convolution& conv,
                                                const ProductOperands& o) override {
    return Bind(pass, o, [pass, conv, o](bool adds) {
      RunPass(pass, o, adds,
              [&](auto&& visit) { ForEachMultiplyAdd(conv, o.x.shape, o.y.shape, visit); });
    });
  }
  std::unique_ptr<BoundProduct> MakeFullyConnected(ProductPass pass,
                                                   const ProductOperands& o) override {
    return Bind(pass, o, [pass, o](bool adds) {
      RunPass(pass, o, adds, [&](auto&& visit) { ForEachMatrixMultiplyAdd(o, visit); });
      if (pass == ProductPass::kBackwardWeights && o.bias_gradient) SumBias(o, adds);
    });
  }

  KernelChoices choices() const override { return choices_; }
  std::vector<KernelMeasurement> TakeMeasurements() override {
    return std::exchange(measurements_, {});
  }
  void UseChoices(const KernelChoices& choices) override {
    for (const auto& [product, choice] : choices) choices_[product] = choice;
  }

 private:
  // for_each(visit) visits every multiply-add.
  template <typename ForEach>
  static void RunPass(ProductPass pass, const ProductOperands& o, bool adds, ForEach&& for_each) {
    switch (pass) {
      case ProductPass::kForward: {
        std::vector<double> sums = ZerosLike(o.y);
        for_each([&](int64_t y, int64_t x, int64_t w) {
          sums[static_cast<size_t>(y)] += At(o.x, x) * At(o.weight, w);
        });
        return Finish(sums, o.bias, o.relu, o.y);
      }
      case ProductPass::kBackwardData: {
        std::vector<double> sums = ZerosLike(o.dx);
        for_each([&](int64_t y, int64_t x, int64_t w) {
          sums[static_cast<size_t>(x)] += At(o.dy, y) * At(o.weight, w);
        });
        return WriteMasked(sums, o.x, o.mask_dx, o.dx);
      }
      case ProductPass::kBackwardWeights: {
        std::vector<double> sums = ZerosLike(o.weight_gradient);
        for_each([&](int64_t y, int64_t x, int64_t w) {
          sums[static_cast<size_t>(w)] += At(o.dy, y) * At(o.x, x);
        });
        return WriteGradient(sums, adds, o.weight_gradient);
      }
    }
  }

  static void SumBias(const ProductOperands& o, bool adds) {
    std::vector<double> sums = ZerosLike(o.bias_gradient);
    for (int64_t i = 0; i < o.dy.count(); ++i) {
      sums[static_cast<size_t>(i % o.bias_gradient.count())] += At(o.dy, i);
    }
    WriteGradient(sums, adds, o.bias_gradient);
  }

  template <typename Visit>
  static void ForEachMatrixMultiplyAdd(const ProductOperands& o, Visit&& visit) {
    const int64_t rows = o.x.shape[0], in = o.x.count() / rows, out = o.weight.shape[0];
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t f = 0; f < out; ++f) {
        for (int64_t i = 0; i < in; ++i) visit(n * out + f, n * in + i, f * in + i);
      }
    }
  }

  // As the vendor's library does it: what nobody chose yet is chosen now.
  std::unique_ptr<BoundProduct> Bind(ProductPass pass, const ProductOperands& o,
                                     std::function<void(bool adds)> work) {
    const std::string product = fmt::format("{} {}", o.name, NameOf(pass));
    if (choices_.try_emplace(product, "loops").second) {
      measurements_.push_back({.product = product, .choice = "loops", .tried = 1});
    }
    return std::make_unique<Loops>(std::move(work),
                                   pass == ProductPass::kBackwardWeights && o.accumulates);
  }

  KernelChoices choices_;
  std::vector<KernelMeasurement> measurements_;
};

}  // namespace

std::unique_ptr<Library> MakeLibrary(const CudaOptions& options) {
  return std::make_unique<LoopLibrary>(options);
}

}  // namespace convoy::cuda
