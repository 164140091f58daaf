// The optimiser's pass.
#include <cmath>
#include <limits>

#include "tests/backend/tested.h"

namespace convoy {
namespace {

// Arenas of `count` master values, their states and, where asked, their bf16 copy.
class Arenas {
 public:
  Arenas(std::unique_ptr<Backend> backend, int64_t count, bool has_copy = false)
      : backend_(std::move(backend)) {
    const auto allocate = [&](DType dtype, int64_t elements) {
      memory_.push_back(backend_->Allocate(elements * SizeOf(dtype)));
      return ViewOf(memory_.back(), dtype, Shape{elements});
    };
    w = allocate(backend_->master_dtype(), count);
    v = allocate(backend_->master_dtype(), count);
    g = allocate(backend_->master_dtype(), count);
    non_finite_ = allocate(DType::kInt32, 1);
    if (has_copy) copy = allocate(DType::kBFloat16, count);
    stream_ = backend_->MakeStream();
    Set(w, RandomValues(count, 1));
    Set(v, RandomValues(count, 2));
    Set(g, RandomValues(count, 3));
  }

  void Update(UpdateRule rule, const std::vector<UpdateRange>& ranges) {
    backend_->Update(*stream_, {.rule = rule,
                                .parameters = w,
                                .compute = copy ? copy : w,
                                .gradients = g,
                                .states = {v},
                                .ranges = ranges,
                                .non_finite = non_finite_});
  }
  void RefreshCopy() { backend_->RefreshCompute(*stream_, w, copy); }

  std::vector<double> Values(const Tensor& tensor) const {
    return ValuesOf(*backend_, *stream_, tensor);
  }
  void Set(const Tensor& tensor, const std::vector<double>& values) {
    SetValues(*backend_, *stream_, tensor, values);
  }
  template <typename T>
  std::vector<T> Elements(const Tensor& tensor) const {
    return ElementsOf<T>(*backend_, *stream_, tensor);
  }
  int32_t NonFinite() const { return Elements<int32_t>(non_finite_)[0]; }

  Tensor w, v, g, copy;

 private:
  std::unique_ptr<Backend> backend_;
  std::vector<Buffer> memory_;
  Tensor non_finite_;
  std::unique_ptr<Stream> stream_;  // goes first, and ends the work that is queued
};

// Worked by hand: after a drop of the rate, the paper's velocity still carries the old one.
TEST(Update, GivesTheWorkedExampleOfBothRules) {
  const std::vector<double> paper = {0.994995, 0.985485525025, 0.976426504805};
  const std::vector<double> torch = {0.994995, 0.985485525025, 0.984129179535};
  for (const UpdateRule rule : {UpdateRule::kPaper, UpdateRule::kTorch}) {
    Arenas arenas(MakeTestedBackend(1), 1);
    arenas.Set(arenas.w, {1});
    arenas.Set(arenas.v, {0});
    arenas.Set(arenas.g, {0.5});
    const std::vector<double> rates = {0.01, 0.01, 0.001};
    for (size_t step = 0; step < rates.size(); ++step) {
      arenas.Update(
          rule,
          {{.begin = 0, .count = 1, .lr = rates[step], .momentum = 0.9, .weight_decay = 5e-4}});
      const double want = (rule == UpdateRule::kPaper ? paper : torch)[step];
      EXPECT_NEAR(arenas.Values(arenas.w)[0], want, 2e-7)
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

// With any number of threads, to the last bit.
TEST(Update, AgreesWithTheOracleOnAnyRanges) {
  for (const UpdateRule rule : {UpdateRule::kPaper, UpdateRule::kTorch}) {
    std::vector<double> first_w, first_v;
    for (const int threads : {1, 2, 3}) {
      Arenas tested(MakeTestedBackend(threads), 6000), oracle(MakeOracleBackend(1), 6000);
      for (int step = 0; step < 3; ++step) {
        tested.Update(rule, ManyRanges());
        oracle.Update(rule, ManyRanges());
      }
      const auto w = tested.Values(tested.w), v = tested.Values(tested.v);
      ExpectClose("w", w, oracle.Values(oracle.w), ToleranceOf(DType::kFloat32));
      ExpectClose("v", v, oracle.Values(oracle.v), ToleranceOf(DType::kFloat32));
      if (threads == 1) {
        first_w = w;
        first_v = v;
      }
      EXPECT_EQ(w, first_w) << threads;
      EXPECT_EQ(v, first_v) << threads;
      EXPECT_EQ(tested.NonFinite(), 0);
    }
  }
}

// Frozen ranges and what lies between ranges keep every bit.
TEST(Update, TouchesNothingElse) {
  Arenas arenas(MakeTestedBackend(2), 6000);
  const auto w = arenas.Values(arenas.w), v = arenas.Values(arenas.v);
  arenas.Update(UpdateRule::kPaper, ManyRanges());
  const auto new_w = arenas.Values(arenas.w), new_v = arenas.Values(arenas.v);
  const auto is_updated = [](size_t i) { return i < 1000 || i == 1003 || (i >= 1100 && i < 5100); };
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(new_w[i] != w[i], is_updated(i)) << i;
    if (!is_updated(i)) {
      EXPECT_EQ(new_v[i], v[i]) << i;
    }
  }
}

TEST(Update, WritesTheRoundedCopyInTheSamePass) {
  Arenas arenas(MakeTestedBackend(2), 6000, true);
  arenas.RefreshCopy();
  const auto expect_rounded = [&] {
    const auto w = arenas.Elements<float>(arenas.w);
    const auto copy = arenas.Elements<BFloat16>(arenas.copy);
    for (size_t i = 0; i < w.size(); ++i) {
      ASSERT_EQ(copy[i].bits, BFloat16(w[i]).bits) << i;
    }
  };
  expect_rounded();
  arenas.Update(UpdateRule::kTorch, ManyRanges());
  expect_rounded();
}

TEST(Update, StopsAtWhatIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {infinity, -infinity, std::nan("")}) {
    for (const size_t place : {size_t{0}, size_t{999}, size_t{1003}, size_t{3210}}) {
      Arenas arenas(MakeTestedBackend(2), 6000);
      auto gradients = arenas.Values(arenas.g);
      gradients[place] = bad;
      arenas.Set(arenas.g, gradients);
      arenas.Update(UpdateRule::kPaper, ManyRanges());
      EXPECT_EQ(arenas.NonFinite(), 1) << bad << " at " << place;
      const auto w = arenas.Values(arenas.w), v = arenas.Values(arenas.v);
      arenas.Set(arenas.g, RandomValues(6000, 8));
      arenas.Update(UpdateRule::kPaper, ManyRanges());
      EXPECT_EQ(arenas.NonFinite(), 1);
      EXPECT_EQ(arenas.Values(arenas.w)[100], w[100]);
      EXPECT_EQ(arenas.Values(arenas.v)[100], v[100]);
    }
  }
}

TEST(Update, NoticesAWeightThatOverflows) {
  Arenas arenas(MakeTestedBackend(1), 64);
  auto w = arenas.Values(arenas.w);
  w[33] = 3e38;
  arenas.Set(arenas.w, w);
  arenas.Set(arenas.g, std::vector<double>(64, -3e38));
  arenas.Update(UpdateRule::kTorch, {{.begin = 0, .count = 64, .lr = 0.1, .momentum = 0}});
  EXPECT_EQ(arenas.NonFinite(), 0);
  arenas.Update(UpdateRule::kTorch, {{.begin = 0, .count = 64, .lr = 1, .momentum = 0}});
  EXPECT_EQ(arenas.NonFinite(), 1);
}

TEST(Update, IgnoresNonFiniteGradientsOfFrozenRanges) {
  Arenas arenas(MakeTestedBackend(2), 6000);
  auto gradients = arenas.Values(arenas.g);
  gradients[1010] = std::nan("");
  gradients[1001] = std::nan("");
  arenas.Set(arenas.g, gradients);
  arenas.Update(UpdateRule::kPaper, ManyRanges());
  EXPECT_EQ(arenas.NonFinite(), 0);
}

}  // namespace
}  // namespace convoy
