// The update rules on the oracle, against numbers and formulas that are worked apart.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "layers/backend.h"
#include "layers/updater.h"

namespace convoy {
namespace {

Tensor ViewOf(std::vector<double>& values) {
  return {values.data(), DType::kFloat64, Shape{std::ssize(values)}};
}

// One weight after another, one update each, on the oracle.
class OracleUpdate : public testing::Test {
 protected:
  // Updates element 0 of `w`, or another.
  void Update(const UpdateRule& rule, const ParameterRates& rates, int64_t element = 0) {
    UpdateOptions options{.rule = rule};
    options.ranges = {{.begin = element, .count = 1}};
    options.buckets = {{.first = 0, .count = 1}};
    const auto updater = backend_->CompileUpdate({.parameters = ViewOf(w),
                                                  .compute = ViewOf(w),
                                                  .gradients = ViewOf(g),
                                                  .states = {ViewOf(v)},
                                                  .non_finite = {&non_finite, DType::kInt32, {1}}},
                                                 options);
    updater->SetRates(stream_, {&rates, 1});
    updater->Run(stream_, 0);
  }

  std::vector<double> w = {1, 1}, v = {0, 0}, g = {0.5, 0.5};
  int32_t non_finite = 0;

 private:
  std::unique_ptr<Backend> backend_ = MakeOracleBackend(1);
  HostStream stream_;
};

TEST_F(OracleUpdate, ReproducesTheWorkedExampleOfBothRules) {
  const auto run = [&](const UpdateRule& rule) {
    w[0] = 1;
    v[0] = 0;
    std::vector<double> path;
    for (double lr : {0.01, 0.01, 0.001}) {
      Update(rule, {.lr = lr, .momentum = 0.9, .weight_decay = 5e-4});
      path.push_back(w[0]);
    }
    return path;
  };
  const std::vector<double> paper = run(PaperRule{}), sgd = run(SgdRule{});
  EXPECT_NEAR(paper[0], 0.994995, 1e-12);
  EXPECT_NEAR(paper[1], 0.985485525025, 1e-12);
  EXPECT_NEAR(paper[2], 0.976426504805, 1e-12);
  EXPECT_NEAR(sgd[0], 0.994995, 1e-12);
  EXPECT_NEAR(sgd[1], 0.985485525025, 1e-12);
  EXPECT_NEAR(sgd[2], 0.984129179535, 1e-12);
}

TEST_F(OracleUpdate, LearningRateZeroFreezesWeightAndVelocity) {
  v[0] = 0.25;
  Update(PaperRule{}, {.lr = 0, .momentum = 0.9, .weight_decay = 5e-4});
  EXPECT_EQ(w[0], 1);
  EXPECT_EQ(v[0], 0.25);
}

TEST_F(OracleUpdate, ANonFiniteGradientRaisesTheFlagAndTheFlagStopsUpdates) {
  g[0] = std::nan("");
  Update(PaperRule{}, {.lr = 0.01, .momentum = 0.9});
  EXPECT_EQ(non_finite, 1);
  Update(PaperRule{}, {.lr = 0.01, .momentum = 0.9}, 1);
  EXPECT_EQ(w[1], 1);
}

// A tensor of `rows` rows of three, updated in one piece or in two that know of each other only by
// the table.
struct Layer {
  std::vector<double> w, g, v;
  int64_t rows = 0;
};

Layer SomeLayer(int64_t rows) {
  Layer layer{.rows = rows};
  for (int64_t i = 0; i < 3 * rows; ++i) {
    const auto x = static_cast<double>(i);
    layer.w.push_back(std::sin(1.3 * x + 0.2));
    layer.g.push_back(0.01 * std::cos(0.7 * x));
    layer.v.push_back(0.001 * std::sin(2.1 * x));
  }
  return layer;
}

// Updates `layer` as `cuts` parts of equally many rows.
void UpdateInParts(Layer& layer, int cuts, const UpdateRule& rule, const ParameterRates& rates,
                   double clip_norm, bool adapts = true) {
  const auto backend = MakeOracleBackend(1);
  HostStream stream;
  int32_t non_finite = 0;
  std::vector<std::unique_ptr<Updater>> updaters;
  std::vector<Tensor> tables;
  for (int cut = 0; cut < cuts; ++cut) {
    const int64_t rows = layer.rows / cuts, first_row = cut * rows;
    UpdateOptions options{.rule = rule, .clip_norm = clip_norm, .table_rows = layer.rows};
    options.ranges = {{.begin = 3 * first_row,
                       .count = 3 * rows,
                       .rows = rows,
                       .first_row = first_row,
                       .uncut_rows = layer.rows,
                       .adapts = adapts}};
    options.buckets = {{.first = 0, .count = 1}};
    updaters.push_back(backend->CompileUpdate({.parameters = ViewOf(layer.w),
                                               .compute = ViewOf(layer.w),
                                               .gradients = ViewOf(layer.g),
                                               .states = {ViewOf(layer.v)},
                                               .non_finite = {&non_finite, DType::kInt32, {1}}},
                                              options));
    updaters.back()->SetRates(stream, {&rates, 1});
    tables.push_back(updaters.back()->SumSquares(stream));
  }
  std::vector<double> sum(static_cast<size_t>(2 * layer.rows));
  for (const Tensor& table : tables) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += table.As<double>()[i];
  }
  for (int cut = 0; cut < cuts; ++cut) {
    std::copy(sum.begin(), sum.end(), tables[static_cast<size_t>(cut)].As<double>());
    updaters[static_cast<size_t>(cut)]->Scale(stream);
    updaters[static_cast<size_t>(cut)]->Run(stream, 0);
  }
}

double NormOf(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

TEST(OracleLars, IsItsFormula) {
  const LarsRule lars{.eta = 0.002};
  const ParameterRates rates{.lr = 3, .momentum = 0.9, .weight_decay = 0.01};
  for (const bool adapts : {true, false}) {
    Layer layer = SomeLayer(8);
    for (int step = 0; step < 5; ++step) {
      const Layer before = layer;
      UpdateInParts(layer, 1, lars, rates, 0, adapts);
      const double w_norm = NormOf(before.w), g_norm = NormOf(before.g);
      const double trust = adapts ? 0.002 * w_norm / (g_norm + 0.01 * w_norm) : 1;
      for (size_t i = 0; i < layer.w.size(); ++i) {
        const double v = 0.9 * before.v[i] + 3 * trust * (before.g[i] + 0.01 * before.w[i]);
        EXPECT_NEAR(layer.v[i], v, 1e-14) << i;
        EXPECT_NEAR(layer.w[i], before.w[i] - v, 1e-14) << i;
      }
    }
  }
}

TEST(OracleLars, ATensorOfZerosLearnsAtTheRateItself) {
  Layer layer = SomeLayer(4);
  std::fill(layer.w.begin(), layer.w.end(), 0.0);
  std::fill(layer.v.begin(), layer.v.end(), 0.0);
  UpdateInParts(layer, 1, LarsRule{}, {.lr = 0.5, .momentum = 0.9}, 0);
  for (size_t i = 0; i < layer.w.size(); ++i) EXPECT_EQ(layer.w[i], -0.5 * layer.g[i]) << i;
}

TEST(OracleLars, HasTheSameBitsUnderEveryCut) {
  for (const double clip_norm : {0.0, 0.02}) {
    Layer uncut = SomeLayer(8);
    const ParameterRates rates{.lr = 3, .momentum = 0.9, .weight_decay = 0.01};
    for (int step = 0; step < 5; ++step) UpdateInParts(uncut, 1, LarsRule{}, rates, clip_norm);
    for (const int cuts : {2, 4, 8}) {
      Layer cut = SomeLayer(8);
      for (int step = 0; step < 5; ++step) UpdateInParts(cut, cuts, LarsRule{}, rates, clip_norm);
      EXPECT_EQ(cut.w, uncut.w) << cuts;
      EXPECT_EQ(cut.v, uncut.v) << cuts;
    }
  }
}

TEST(OracleClipping, ScalesTheGradientDownToTheNormAndNeverUp) {
  for (const double clip_norm : {0.01, 1e3}) {
    Layer layer = SomeLayer(8);
    const Layer before = layer;
    const double norm = NormOf(before.g);
    ASSERT_GT(norm, 0.01);
    ASSERT_LT(norm, 1e3);
    UpdateInParts(layer, 2, SgdRule{}, {.lr = 0.5, .momentum = 0}, clip_norm);
    const double factor = std::min(1.0, clip_norm / (norm + 1e-6));
    for (size_t i = 0; i < layer.w.size(); ++i) {
      EXPECT_NEAR(layer.w[i], before.w[i] - 0.5 * factor * before.g[i], 1e-15) << i;
    }
  }
}

// A parameter that was frozen while others learned is corrected by its own count of updates, so its
// first step has the size of the rate.
TEST(OracleAdam, TheFirstStepHasTheSizeOfTheRate) {
  for (const double g : {1e-3, 0.5, 70.0}) {
    std::vector<double> w = {1}, gradient = {g}, m = {0}, v = {0};
    int32_t non_finite = 0;
    const auto backend = MakeOracleBackend(1);
    HostStream stream;
    UpdateOptions options{.rule = AdamRule{}};
    options.ranges = {{.begin = 0, .count = 1}};
    options.buckets = {{.first = 0, .count = 1}};
    const auto updater = backend->CompileUpdate({.parameters = ViewOf(w),
                                                 .compute = ViewOf(w),
                                                 .gradients = ViewOf(gradient),
                                                 .states = {ViewOf(m), ViewOf(v)},
                                                 .non_finite = {&non_finite, DType::kInt32, {1}}},
                                                options);
    const ParameterRates rates{.lr = 0.25};
    updater->SetRates(stream, {&rates, 1});
    updater->Run(stream, 0);
    EXPECT_NEAR(w[0], 0.75, 1e-5) << g;  // eps beside g
  }
}

}  // namespace
}  // namespace convoy
