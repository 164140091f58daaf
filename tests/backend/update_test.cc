// The optimiser's pass.
#include <cmath>
#include <limits>

#include "tests/backend/tested.h"

namespace convoy {
namespace {

// A range of the arenas with its settings at one step.
struct RatedRange {
  UpdateRange range;
  ParameterRates rates;
};
RatedRange Rated(int64_t begin, int64_t count, const ParameterRates& rates) {
  return {.range = {.begin = begin, .count = count}, .rates = rates};
}

// Arenas of `count` master values, two states and, if asked for, their bf16 copy.
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
    second = allocate(backend_->master_dtype(), count);
    g = allocate(backend_->master_dtype(), count);
    non_finite_ = allocate(DType::kInt32, 1);
    if (has_copy) copy = allocate(DType::kBFloat16, count);
    stream_ = backend_->MakeStream();
    Set(w, RandomValues(count, 1));
    Set(v, RandomValues(count, 2));
    Set(second, Squared(RandomValues(count, 4)));
    Set(g, RandomValues(count, 3));
  }

  // One update of `ranges`, by one call for all of them.
  void Update(const UpdateRule& rule, const std::vector<RatedRange>& ranges, double clip_norm = 0) {
    UpdateOptions options{.rule = rule, .clip_norm = clip_norm};
    options.buckets = {{.first = 0, .count = std::ssize(ranges)}};
    std::vector<ParameterRates> rates;
    for (const RatedRange& given : ranges) {
      UpdateRange range = given.range;
      range.first_row = range.uncut_first_row = options.table_rows;
      range.uncut_rows = range.rows;
      options.table_rows += range.rows;
      options.ranges.push_back(range);
      rates.push_back(given.rates);
      rates.back().updates = updates_;
    }
    ++updates_;
    const std::vector<Tensor> both = {v, second};
    const auto updater = backend_->CompileUpdate(
        {.parameters = w,
         .compute = copy ? copy : w,
         .gradients = g,
         .states = {both.begin(), both.begin() + std::ssize(StateNamesOf(rule))},
         .non_finite = non_finite_},
        options);
    updater->SetRates(*stream_, rates);
    if (NeedsNorms(options)) {
      table_ = ValuesOf(*backend_, *stream_, updater->SumSquares(*stream_));
      updater->Scale(*stream_);
    }
    updater->Run(*stream_, 0);
    stream_->Synchronize();
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

  // What the last update that needed norms summed: of gradients, then of weights.
  const std::vector<double>& table() const { return table_; }

  Tensor w, v, second, g, copy;  // `v` is the first state

 private:
  // Adam's second state is never negative.
  static std::vector<double> Squared(std::vector<double> values) {
    for (double& value : values) value *= value;
    return values;
  }

  std::unique_ptr<Backend> backend_;
  std::vector<Buffer> memory_;
  Tensor non_finite_;
  int64_t updates_ = 0;
  std::vector<double> table_;
  std::unique_ptr<Stream> stream_;  // goes first, and ends the work that is queued
};

// Worked by hand: after a drop of the rate, the paper's velocity still carries the old one.
TEST(Update, GivesTheWorkedExampleOfBothRules) {
  const std::vector<double> paper = {0.994995, 0.985485525025, 0.976426504805};
  const std::vector<double> sgd = {0.994995, 0.985485525025, 0.984129179535};
  for (const bool is_paper : {true, false}) {
    Arenas arenas(MakeTestedBackend(1), 1);
    arenas.Set(arenas.w, {1});
    arenas.Set(arenas.v, {0});
    arenas.Set(arenas.g, {0.5});
    const std::vector<double> rates = {0.01, 0.01, 0.001};
    for (size_t step = 0; step < rates.size(); ++step) {
      arenas.Update(is_paper ? UpdateRule(PaperRule{}) : UpdateRule(SgdRule{}),
                    {Rated(0, 1, {.lr = rates[step], .momentum = 0.9, .weight_decay = 5e-4})});
      EXPECT_NEAR(arenas.Values(arenas.w)[0], (is_paper ? paper : sgd)[step], 2e-7)
          << "step " << step;  // three roundings of 2^-24
    }
  }
}

std::vector<RatedRange> ManyRanges() {
  std::vector<RatedRange> ranges = {
      Rated(0, 1000, {.lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4}),
      Rated(1003, 1, {.lr = 0.5, .momentum = 0, .weight_decay = 0}),
      Rated(1004, 77, {.lr = 0, .momentum = 0.9, .weight_decay = 5e-4}),
      Rated(1100, 4000, {.lr = 0.02, .momentum = 0.5, .weight_decay = 1e-3}),
      Rated(5100, 0, {.lr = 1, .momentum = 1, .weight_decay = 1})};
  ranges[0].range.rows = 20;
  ranges[1].range.adapts = false;
  ranges[3].range.rows = 1000;
  return ranges;
}

// With any number of threads, to the last bit.
TEST(Update, AgreesWithTheOracleOnAnyRanges) {
  for (const UpdateRule& rule : AllUpdateRules()) {
    for (const double clip_norm : {0.0, 5.0}) {
      SCOPED_TRACE(NameOf(rule) + (clip_norm > 0 ? ", clipped" : ""));
      std::vector<double> first_w, first_v;
      for (const int threads : {1, 2, 3}) {
        Arenas tested(MakeTestedBackend(threads), 6000), oracle(MakeOracleBackend(1), 6000);
        for (int step = 0; step < 3; ++step) {
          tested.Update(rule, ManyRanges(), clip_norm);
          oracle.Update(rule, ManyRanges(), clip_norm);
        }
        const auto w = tested.Values(tested.w), v = tested.Values(tested.v);
        // Three steps, each a sum of up to four products.
        const Tolerance tolerance = ToleranceOf(DType::kFloat32, 12);
        ExpectClose("w", w, oracle.Values(oracle.w), tolerance);
        ExpectClose("v", v, oracle.Values(oracle.v), tolerance);
        ExpectClose("second state", tested.Values(tested.second), oracle.Values(oracle.second),
                    tolerance);
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
}

// LARS and clipping rest on them: a frozen range counts for nothing, an empty one neither.
TEST(Update, SumsTheSquaresOfEveryRow) {
  Arenas arenas(MakeTestedBackend(2), 6000);
  const auto w = arenas.Values(arenas.w), g = arenas.Values(arenas.g);
  arenas.Update(LarsRule{}, ManyRanges());
  std::vector<double> gradients, weights;
  for (const RatedRange& rated : ManyRanges()) {
    const int64_t elements = rated.range.count / rated.range.rows;
    for (int64_t row = 0; row < rated.range.rows; ++row) {
      double of_gradient = 0, of_weight = 0;
      for (int64_t i = 0; i < elements && rated.rates.lr != 0; ++i) {
        const auto at = static_cast<size_t>(rated.range.begin + row * elements + i);
        of_gradient += g[at] * g[at];
        of_weight += w[at] * w[at];
      }
      gradients.push_back(of_gradient);
      weights.push_back(of_weight);
    }
  }
  gradients.insert(gradients.end(), weights.begin(), weights.end());
  ASSERT_EQ(arenas.table().size(), gradients.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_NEAR(arenas.table()[i], gradients[i], 1e-12 * gradients[i]) << i;  // sums of doubles
  }
}

// A row cut out of a tensor has the bits of the same row in the uncut one, so every cut has the
// same norms.
TEST(Update, SumsARowAlikeWhereverItLies) {
  Arenas arenas(MakeTestedBackend(3), 6000);
  RatedRange whole = Rated(0, 10 * 363, {.lr = 0.01});
  whole.range.rows = 10;
  arenas.Update(LarsRule{}, {whole});
  const std::vector<double> uncut = arenas.table();
  RatedRange half = Rated(64, 5 * 363, {.lr = 0.01});
  half.range.rows = 5;
  auto g = RandomValues(6000, 3);  // what Arenas begins with
  const std::vector<double> rows(g.begin() + 5 * 363, g.begin() + 10 * 363);
  std::copy(rows.begin(), rows.end(), g.begin() + 64);
  arenas.Set(arenas.g, g);
  arenas.Update(LarsRule{}, {half});
  for (size_t row = 0; row < 5; ++row) EXPECT_EQ(arenas.table()[row], uncut[5 + row]) << row;
}

// Frozen ranges and what lies between ranges keep every bit.
TEST(Update, TouchesNothingElse) {
  Arenas arenas(MakeTestedBackend(2), 6000);
  const auto w = arenas.Values(arenas.w), v = arenas.Values(arenas.v);
  arenas.Update(PaperRule{}, ManyRanges());
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
  arenas.Update(SgdRule{}, ManyRanges());
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
      arenas.Update(PaperRule{}, ManyRanges());
      EXPECT_EQ(arenas.NonFinite(), 1) << bad << " at " << place;
      const auto w = arenas.Values(arenas.w), v = arenas.Values(arenas.v);
      arenas.Set(arenas.g, RandomValues(6000, 8));
      arenas.Update(PaperRule{}, ManyRanges());
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
  arenas.Update(SgdRule{}, {Rated(0, 64, {.lr = 0.1})});
  EXPECT_EQ(arenas.NonFinite(), 0);
  arenas.Update(SgdRule{}, {Rated(0, 64, {.lr = 1})});
  EXPECT_EQ(arenas.NonFinite(), 1);
}

TEST(Update, IgnoresNonFiniteGradientsOfFrozenRanges) {
  Arenas arenas(MakeTestedBackend(2), 6000);
  auto gradients = arenas.Values(arenas.g);
  gradients[1010] = std::nan("");
  gradients[1001] = std::nan("");
  arenas.Set(arenas.g, gradients);
  arenas.Update(PaperRule{}, ManyRanges());
  EXPECT_EQ(arenas.NonFinite(), 0);
}

}  // namespace
}  // namespace convoy
