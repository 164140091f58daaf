// Every kernel that cuDNN and cuBLASLt propose for a layer, not only the one that is the fastest on
// some device: each gives the oracle's sums, and the same bits twice. Prints a line for each, with
// its time; one that the library refuses is no failure as long as another runs.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/error.h"
#include "layers/cuda/backend.h"
#include "layers/cuda/kernels/workspace_pool.h"
#include "layers/cuda/products/cublaslt_matrix.h"
#include "layers/cuda/products/cudnn_convolution.h"
#include "layers/cuda/products/kernel_choice.h"
#include "tests/backend/compare.h"
#include "tests/cuda/layer_reference.h"

namespace convoy::cuda {
namespace {

struct Precision {
  std::string name;
  DType dtype;
  bool tf32;
};

struct Case {
  TestedLayer layer;
  Precision precision;
  ProductPass pass;
  bool masks = false;  // backward data: with the ReLU's mask
};

std::string NameOf(const Case& tested) {
  std::string pass = NameOf(tested.pass);
  std::replace(pass.begin(), pass.end(), ' ', '_');
  return fmt::format("{}_{}_{}{}", tested.layer.name, tested.precision.name,
                     tested.masks ? "masked_" : "", pass);
}

std::ostream& operator<<(std::ostream& out, const Case& tested) { return out << NameOf(tested); }

// Returns those of one layer after another, so that they share its reference.
std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const TestedLayer& layer : LayersWithProducts()) {
    for (const Precision& precision :
         {Precision{"fp32", DType::kFloat32, false}, Precision{"tf32", DType::kFloat32, true},
          Precision{"bf16", DType::kBFloat16, false}}) {
      for (const ProductPass pass :
           {ProductPass::kForward, ProductPass::kBackwardData, ProductPass::kBackwardWeights}) {
        cases.push_back({layer, precision, pass});
        if (pass == ProductPass::kBackwardData) {
          cases.push_back({layer, precision, pass, /*masks=*/true});
        }
      }
    }
  }
  return cases;
}

// What candidates are made with and run on.
struct Device {
  std::unique_ptr<Backend> backend = MakeBackend({});
  CudnnContext cudnn{0};
  CublasLtContext cublaslt{0};
  WorkspacePool workspace{0}, packed{0};
  int64_t workspace_bytes = kLeastWorkspaceBytes;
  // Held, so that no candidate finds a workspace of zeros but the first.
  std::shared_ptr<const Buffer> held_workspace = workspace.AtLeast(workspace_bytes);
  std::unique_ptr<Stream> stream = MakeStream(0);
};

// What a kernel is to write.
struct Expected {
  Tensor tensor;
  const std::vector<double>& sums;            // of products
  std::vector<double> want;                   // after bias and ReLU, or the mask
  int64_t length;                             // products in a sum
  const std::vector<double>* mask = nullptr;  // exactly zero if this is not above zero
};

// |got - want| <= rounding * (|sum| + |want|) + of_rms * rms(sums). The sum is rounded when it is
// stored, and again if an own kernel adds the bias after it.
struct Allowed {
  double rounding, of_rms;
};

Allowed AllowedFor(const Precision& precision, bool is_rounded, int64_t length) {
  const auto products = static_cast<double>(length);
  // Sums in fp32: their error grows with the square root of the length.
  double of_rms = 16 * 0x1p-24 * std::sqrt(products);
  // Tensor cores cut off what they add, 8 products at a time or more, instead of rounding it.
  if (precision.tf32 || precision.dtype == DType::kBFloat16) of_rms += 0x1p-23 * products / 8;
  // The inputs are exact in TF32, but not if a kernel transforms them first.
  if (precision.tf32) of_rms += 4 * 0x1p-11;
  // A little more than half a unit in the last place, because what is rounded is not exact.
  return {.rounding = is_rounded ? 0x1.02p-8 : 0x1.02p-24, .of_rms = of_rms};
}

struct Comparison {
  int64_t wrong = 0, not_masked = 0;
  double worst = 0;  // times what is allowed
};

double At(const std::vector<std::byte>& bytes, DType dtype, int64_t i) {
  const auto read = [&](auto value) {
    std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(value), sizeof(value));
    return static_cast<double>(static_cast<float>(value));
  };
  return dtype == DType::kBFloat16 ? read(BFloat16{}) : read(float{});
}

Comparison Compare(const Expected& expected, const Allowed& allowed,
                   const std::vector<std::byte>& bytes) {
  const auto count = std::ssize(expected.want);
  const double* sums = expected.sums.data();
  double squares = 0;
#pragma omp parallel for reduction(+ : squares)
  for (int64_t i = 0; i < count; ++i) squares += sums[i] * sums[i];
  const double base = allowed.of_rms * std::sqrt(squares / static_cast<double>(count));
  int64_t wrong = 0, not_masked = 0;
  double worst = 0;
#pragma omp parallel for reduction(+ : wrong, not_masked) reduction(max : worst)
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    const double got = At(bytes, expected.tensor.dtype, i), want = expected.want[at];
    if (expected.mask != nullptr && (*expected.mask)[at] <= 0) {
      if (got != 0) ++not_masked;
      continue;
    }
    const double limit = base + allowed.rounding * (std::abs(sums[i]) + std::abs(want));
    const double excess = std::abs(got - want) / limit;
    if (!(excess <= 1)) ++wrong;
    worst = std::max(worst, std::isnan(excess) ? HUGE_VAL : excess);
  }
  return {wrong, not_masked, worst};
}

class Candidates : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    try {
      DeviceCount();
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kDevice) throw;
      missing_ = error.message();
      return;
    }
    device_ = std::make_unique<Device>();
  }
  static void TearDownTestSuite() {
    device_.reset();
    reference_.reset();
  }
  void SetUp() override {
    if (!missing_.empty()) GTEST_SKIP() << "no device: skipped: " << missing_;
    const TestedLayer& layer = GetParam().layer;
    if (!reference_ || reference_->first != layer.name) {
      reference_.reset();  // its memory goes before that of the next
      reference_.emplace(layer.name, ReferenceOf(layer));
    }
    MakeOperands(reference_->second);
  }

  // Runs all of them; what is expected is there.
  void RunCandidates() {
    const std::vector<Expected> all_expected = MakeExpected(reference_->second);
    for (const CandidateGroup& group : MakeCandidates()) {
      for (const KernelCandidate& candidate : group.candidates) {
        std::string verdict;
        try {
          verdict = VerdictOn(candidate, group.rounds, all_expected);
          ++ran_;
        } catch (const Error& error) {
          if (error.exit_code() != ExitCode::kDevice) throw;
          verdict = "refused: " + error.message();
          ++refused_;
          // Throws if a kernel failed, and did not only refuse: no other can run any more.
          device_->stream->Synchronize();
        }
        fmt::print("{} {} {}\n", NameOf(GetParam()), candidate.name, verdict);
      }
    }
    fmt::print("{}: {} ran, {} were refused\n", NameOf(GetParam()), ran_, refused_);
    EXPECT_GT(ran_, 0) << "no kernel runs";
  }

 private:
  Tensor Make(DType dtype, const Shape& shape, const std::vector<double>& values = {}) {
    memory_.push_back(AllocateDevice(0, shape.count() * SizeOf(dtype)));
    const Tensor tensor = ViewOf(memory_.back(), dtype, shape);
    if (!values.empty()) SetValues(*device_->backend, *device_->stream, tensor, values);
    return tensor;
  }

  void MakeOperands(const LayerReference& reference) {
    const DType dtype = GetParam().precision.dtype;
    const Shape bias{std::ssize(reference.bias)};
    x_ = Make(dtype, reference.x_shape, reference.x);
    weight_ = Make(dtype, reference.weight_shape, reference.weight);
    bias_ = Make(DType::kFloat32, bias, reference.bias);
    compute_bias_ = dtype == DType::kFloat32 ? bias_ : Make(dtype, bias, reference.bias);
    dy_ = Make(dtype, reference.y_shape, reference.dy);
    y_ = Make(dtype, reference.y_shape);
    dx_ = Make(dtype, reference.x_shape);
    weight_gradient_ = Make(DType::kFloat32, reference.weight_shape);
    bias_gradient_ = Make(DType::kFloat32, bias);
  }

  std::vector<Expected> MakeExpected(const LayerReference& reference) const {
    const auto* conv = std::get_if<Convolution>(&GetParam().layer.spec.layer);
    const Shape& weight = reference.weight_shape;
    const int64_t rows = reference.y_shape.count() / reference.y_shape.back();
    switch (GetParam().pass) {
      case ProductPass::kForward: {
        std::vector<double> want = reference.y;
        for (size_t i = 0; i < want.size(); ++i) {
          want[i] += reference.bias[i % reference.bias.size()];
          if (GetParam().layer.relu) want[i] = std::max(want[i], 0.0);
        }
        return {{.tensor = y_,
                 .sums = reference.y,
                 .want = std::move(want),
                 .length = weight.count() / weight[0]}};
      }
      case ProductPass::kBackwardData:
        return {{.tensor = dx_,
                 .sums = reference.dx,
                 .want = reference.dx,
                 .length = weight.count() / weight.back() / (conv == nullptr ? 1 : conv->groups),
                 .mask = GetParam().masks ? &reference.x : nullptr}};
      case ProductPass::kBackwardWeights: {
        std::vector<Expected> expected;
        expected.push_back({.tensor = weight_gradient_,
                            .sums = reference.weight_gradient,
                            .want = reference.weight_gradient,
                            .length = rows});
        // That of a convolution's bias is an own kernel's.
        if (conv == nullptr) {
          expected.push_back({.tensor = bias_gradient_,
                              .sums = reference.bias_gradient,
                              .want = reference.bias_gradient,
                              .length = rows});
        }
        return expected;
      }
    }
    return {};
  }

  std::vector<CandidateGroup> MakeCandidates() const {
    const auto& [layer, precision, pass, masks] = GetParam();
    const ProductOperands operands{.name = layer.name,
                                   .x = x_,
                                   .weight = weight_,
                                   .y = y_,
                                   .bias = bias_,
                                   .compute_bias = compute_bias_,
                                   .relu = layer.relu,
                                   .dy = dy_,
                                   .dx = dx_,
                                   .mask_dx = masks,
                                   .weight_gradient = weight_gradient_,
                                   .bias_gradient = bias_gradient_,
                                   .accumulates = pass == ProductPass::kBackwardWeights,
                                   .packed_x = nullptr};
    if (const auto* conv = std::get_if<Convolution>(&layer.spec.layer)) {
      return ConvolutionCandidates(
          pass, *conv, operands,
          {.context = &device_->cudnn,
           .workspace = &device_->workspace,
           .packed = &device_->packed,
           .limits = {.tensor_cores = precision.tf32 || precision.dtype == DType::kBFloat16,
                      .workspace_bytes = device_->workspace_bytes}});
    }
    return MatrixCandidates(pass, operands,
                            {.context = &device_->cublaslt,
                             .workspace = &device_->workspace,
                             .workspace_bytes = device_->workspace_bytes,
                             .tf32 = precision.tf32});
  }

  using Bits = std::vector<std::vector<std::byte>>;  // of every result

  // Returns what it writes over numbers that are none.
  Bits ResultsOf(BoundProduct& product, const std::vector<Expected>& all_expected) const {
    Stream& stream = *device_->stream;
    Bits bits;
    for (const Expected& expected : all_expected) {
      bits.emplace_back(static_cast<size_t>(expected.tensor.bytes()), std::byte{0xFF});
      device_->backend->CopyToDevice(stream, bits.back().data(), expected.tensor);
    }
    product.Run(stream);
    return Read(all_expected);
  }

  Bits Read(const std::vector<Expected>& all_expected) const {
    Bits bits;
    for (const Expected& expected : all_expected) {
      bits.emplace_back(static_cast<size_t>(expected.tensor.bytes()));
      device_->backend->CopyToHost(*device_->stream, expected.tensor, bits.back().data());
    }
    return bits;
  }

  struct Verdict {
    bool is_right = true;
    double worst = 0;  // of what is allowed
  };
  Verdict CompareAll(const std::string& name, bool rounds,
                     const std::vector<Expected>& all_expected, const Bits& bits) const {
    Verdict verdict;
    for (size_t i = 0; i < bits.size(); ++i) {
      const Expected& expected = all_expected[i];
      const bool is_rounded = expected.tensor.dtype == DType::kBFloat16 || rounds;
      const Comparison comparison =
          Compare(expected, AllowedFor(GetParam().precision, is_rounded, expected.length), bits[i]);
      EXPECT_EQ(comparison.wrong, 0) << name << ": of " << expected.want.size() << ", by up to "
                                     << comparison.worst << " times what is allowed";
      EXPECT_EQ(comparison.not_masked, 0) << name << ": not zero where x is zero";
      verdict.is_right = verdict.is_right && comparison.wrong == 0 && comparison.not_masked == 0;
      verdict.worst = std::max(verdict.worst, comparison.worst);
    }
    return verdict;
  }

  // Throws (kDevice) if the library refuses.
  std::string VerdictOn(const KernelCandidate& candidate, bool rounds,
                        const std::vector<Expected>& all_expected) const {
    const std::unique_ptr<BoundProduct> product = candidate.make();
    const Bits bits = ResultsOf(*product, all_expected);
    const bool repeats = ResultsOf(*product, all_expected) == bits;
    EXPECT_TRUE(repeats) << candidate.name << " gives other bits the second time";
    Verdict verdict = CompareAll(candidate.name, rounds, all_expected, bits);
    if (GetParam().pass == ProductPass::kBackwardWeights) {
      // To the gradient itself, as exactly as fp32 holds it.
      std::vector<Expected> twice = all_expected;
      for (Expected& expected : twice) {
        SetValues(*device_->backend, *device_->stream, expected.tensor, expected.want);
        for (double& value : expected.want) value *= 2;
      }
      product->RunAdding(*device_->stream);
      const Verdict added = CompareAll(candidate.name + ", added", rounds, twice, Read(twice));
      verdict.is_right = verdict.is_right && added.is_right;
      verdict.worst = std::max(verdict.worst, added.worst);
    }
    const double seconds = MeasureSeconds(*device_->stream, *product);
    return fmt::format("{}, {:.1f} us, {:.2f} of the allowed error",
                       verdict.is_right ? "ok" : "wrong", 1e6 * seconds, verdict.worst);
  }

  static inline std::string missing_;  // why there is no device
  static inline std::unique_ptr<Device> device_;
  static inline std::optional<std::pair<std::string, LayerReference>> reference_;  // the last layer

  std::vector<Buffer> memory_;
  Tensor x_, weight_, bias_, compute_bias_, dy_, y_, dx_, weight_gradient_, bias_gradient_;
  int ran_ = 0, refused_ = 0;
};

TEST_P(Candidates, GiveTheSumsOfTheOracleEveryTime) { RunCandidates(); }

INSTANTIATE_TEST_SUITE_P(AlexNet, Candidates, testing::ValuesIn(AllCases()),
                         [](const auto& parameters) { return NameOf(parameters.param); });

}  // namespace
}  // namespace convoy::cuda
