// The optimiser's pass on the CPU backend.
#include <cmath>
#include <limits>

#include "tests/layers/cpu_compare.h"

namespace convoy {
namespace {

// Arenas of `count` fp32 values, their states and, where asked, their bf16 copy.
class Arenas {
 public:
  Arenas(std::unique_ptr<Backend> backend, int64_t count, bool has_copy = false)
      : backend_(std::move(backend)), shape_{count} {
    const DType dtype = backend_->master_dtype();
    for (Buffer& buffer : buffers_) buffer = backend_->Allocate(count * SizeOf(dtype));
    w = ViewOf(buffers_[0], dtype, shape_);
    v = ViewOf(buffers_[1], dtype, shape_);
    g = ViewOf(buffers_[2], dtype, shape_);
    if (has_copy) {
      copy_buffer_ = backend_->Allocate(count * SizeOf(DType::kBFloat16));
      copy = ViewOf(copy_buffer_, DType::kBFloat16, shape_);
    }
    SetValues(w, RandomValues(count, 1));
    SetValues(v, RandomValues(count, 2));
    SetValues(g, RandomValues(count, 3));
  }

  void Update(UpdateRule rule, const std::vector<UpdateRange>& ranges) {
    HostStream stream;
    backend_->Update(stream, {.rule = rule,
                              .parameters = w,
                              .compute = copy ? copy : w,
                              .gradients = g,
                              .states = {v},
                              .ranges = ranges,
                              .non_finite = {&non_finite, DType::kInt32, Shape{1}}});
  }
  Backend& backend() { return *backend_; }

  Tensor w, v, g, copy;
  int32_t non_finite = 0;

 private:
  std::unique_ptr<Backend> backend_;
  Shape shape_;
  Buffer buffers_[3], copy_buffer_;
};

// Worked by hand: after a drop of the rate, the paper's velocity still carries the old one.
TEST(CpuUpdate, GivesTheWorkedExampleOfBothRules) {
  const std::vector<double> paper = {0.994995, 0.985485525025, 0.976426504805};
  const std::vector<double> torch = {0.994995, 0.985485525025, 0.984129179535};
  for (const UpdateRule rule : {UpdateRule::kPaper, UpdateRule::kTorch}) {
    Arenas arenas(MakeCpuBackend(1), 1);
    SetValues(arenas.w, {1});
    SetValues(arenas.v, {0});
    SetValues(arenas.g, {0.5});
    const std::vector<double> rates = {0.01, 0.01, 0.001};
    for (size_t step = 0; step < rates.size(); ++step) {
      arenas.Update(
          rule,
          {{.begin = 0, .count = 1, .lr = rates[step], .momentum = 0.9, .weight_decay = 5e-4}});
      const double want = (rule == UpdateRule::kPaper ? paper : torch)[step];
      EXPECT_NEAR(ValuesOf(arenas.w)[0], want, 2e-7)
          << "step " << step;  // three roundings of 2^-24
    }
  }
}

std::vector<UpdateRange> ManyRanges() {
  return {{.begin = 0, .count = 1000, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4},
          {.begin = 1003, .count = 1, .lr = 0.5, .momentum = 0, .weight_decay = 0},
          {.begin = 1004, .count = 77, .lr = 0, .momentum = 0.9, .weight_decay = 5e-4},
          {.begin = 1100, .count = 4000, .lr = 0.02, .momentum = 0.5, .weight_decay = 1e-3},
          {.begin = 5100, .count = 0, .lr = 1, .momentum = 1, .weight_decay = 1}};
}

TEST(CpuUpdate, AgreesWithTheOracleOnAnyRanges) {
  for (const UpdateRule rule : {UpdateRule::kPaper, UpdateRule::kTorch}) {
    for (const int threads : {1, 2, 3}) {
      Arenas cpu(MakeCpuBackend(threads), 6000), oracle(MakeOracleBackend(1), 6000);
      for (int step = 0; step < 3; ++step) {
        cpu.Update(rule, ManyRanges());
        oracle.Update(rule, ManyRanges());
      }
      ExpectClose("w", ValuesOf(cpu.w), ValuesOf(oracle.w), ToleranceOf(DType::kFloat32));
      ExpectClose("v", ValuesOf(cpu.v), ValuesOf(oracle.v), ToleranceOf(DType::kFloat32));
      EXPECT_EQ(cpu.non_finite, 0);
    }
  }
}

// Frozen ranges and what lies between ranges keep every bit.
TEST(CpuUpdate, TouchesNothingElse) {
  Arenas arenas(MakeCpuBackend(2), 6000);
  const auto w = ValuesOf(arenas.w), v = ValuesOf(arenas.v);
  arenas.Update(UpdateRule::kPaper, ManyRanges());
  const auto new_w = ValuesOf(arenas.w), new_v = ValuesOf(arenas.v);
  const auto is_updated = [](size_t i) { return i < 1000 || i == 1003 || (i >= 1100 && i < 5100); };
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(new_w[i] != w[i], is_updated(i)) << i;
    if (!is_updated(i)) {
      EXPECT_EQ(new_v[i], v[i]) << i;
    }
  }
}

TEST(CpuUpdate, DoesNotDependOnTheThreads) {
  Arenas one(MakeCpuBackend(1), 6000), three(MakeCpuBackend(3), 6000);
  one.Update(UpdateRule::kPaper, ManyRanges());
  three.Update(UpdateRule::kPaper, ManyRanges());
  EXPECT_EQ(ValuesOf(one.w), ValuesOf(three.w));
  EXPECT_EQ(ValuesOf(one.v), ValuesOf(three.v));
}

TEST(CpuUpdate, WritesTheRoundedCopyInTheSamePass) {
  Arenas arenas(MakeCpuBackend(2), 6000, true);
  HostStream stream;
  arenas.backend().RefreshCompute(stream, arenas.w, arenas.copy);
  const auto expect_rounded = [&] {
    const float* w = arenas.w.As<float>();
    const BFloat16* copy = arenas.copy.As<BFloat16>();
    for (int64_t i = 0; i < arenas.w.count(); ++i) {
      ASSERT_EQ(copy[i].bits, BFloat16(w[i]).bits) << i;
    }
  };
  expect_rounded();
  arenas.Update(UpdateRule::kTorch, ManyRanges());
  expect_rounded();
}

TEST(CpuUpdate, StopsAtWhatIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {infinity, -infinity, std::nan("")}) {
    for (const size_t place : {size_t{0}, size_t{999}, size_t{1003}, size_t{3210}}) {
      Arenas arenas(MakeCpuBackend(2), 6000);
      auto gradients = ValuesOf(arenas.g);
      gradients[place] = bad;
      SetValues(arenas.g, gradients);
      arenas.Update(UpdateRule::kPaper, ManyRanges());
      EXPECT_EQ(arenas.non_finite, 1) << bad << " at " << place;
      const auto w = ValuesOf(arenas.w), v = ValuesOf(arenas.v);
      SetValues(arenas.g, RandomValues(6000, 8));
      arenas.Update(UpdateRule::kPaper, ManyRanges());
      EXPECT_EQ(arenas.non_finite, 1);
      EXPECT_EQ(ValuesOf(arenas.w)[100], w[100]);
      EXPECT_EQ(ValuesOf(arenas.v)[100], v[100]);
    }
  }
}

TEST(CpuUpdate, NoticesAWeightThatOverflows) {
  Arenas arenas(MakeCpuBackend(1), 64);
  auto w = ValuesOf(arenas.w);
  w[33] = 3e38;
  SetValues(arenas.w, w);
  SetValues(arenas.g, std::vector<double>(64, -3e38));
  arenas.Update(UpdateRule::kTorch, {{.begin = 0, .count = 64, .lr = 0.1, .momentum = 0}});
  EXPECT_EQ(arenas.non_finite, 0);
  arenas.Update(UpdateRule::kTorch, {{.begin = 0, .count = 64, .lr = 1, .momentum = 0}});
  EXPECT_EQ(arenas.non_finite, 1);
}

TEST(CpuUpdate, IgnoresNonFiniteGradientsOfFrozenRanges) {
  Arenas arenas(MakeCpuBackend(2), 6000);
  auto gradients = ValuesOf(arenas.g);
  gradients[1010] = std::nan("");
  gradients[1001] = std::nan("");
  SetValues(arenas.g, gradients);
  arenas.Update(UpdateRule::kPaper, ManyRanges());
  EXPECT_EQ(arenas.non_finite, 0);
}

}  // namespace
}  // namespace convoy
