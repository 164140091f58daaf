#include "layers/oracle/update.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "layers/operations/norm_scales.h"

namespace convoy::oracle {
namespace {

// The text of the rules here is apart from layers/update_rules.h on purpose: each checks the other.
// `p` has the rate and decay of the parameter, `g` is the gradient, `s` points to the states.

void Apply(const PaperRule&, const ParameterRates& p, double g, double& w, double** s) {
  double& v = *s[0];
  v = p.momentum * v - p.lr * p.weight_decay * w - p.lr * g;
  w = w + v;
}

void Apply(const SgdRule&, const ParameterRates& p, double g, double& w, double** s) {
  double& v = *s[0];
  v = p.momentum * v + g + p.weight_decay * w;
  w = w - p.lr * v;
}

void Apply(const NesterovRule&, const ParameterRates& p, double g, double& w, double** s) {
  double& v = *s[0];
  const double d = g + p.weight_decay * w;
  v = p.momentum * v + d;
  w = w - p.lr * d - p.lr * p.momentum * v;
}

void AdamStep(const AdamRule& rule, const ParameterRates& p, double d, double& w, double** s) {
  double &m = *s[0], &v = *s[1];
  const double t = static_cast<double>(p.updates) + 1;
  m = rule.beta1 * m + (1 - rule.beta1) * d;
  v = rule.beta2 * v + (1 - rule.beta2) * d * d;
  const double m_hat = m / (1 - std::pow(rule.beta1, t));
  const double v_hat = v / (1 - std::pow(rule.beta2, t));
  w = w - p.lr * m_hat / (std::sqrt(v_hat) + rule.eps);
}

void Apply(const AdamRule& rule, const ParameterRates& p, double g, double& w, double** s) {
  AdamStep(rule, p, g + p.weight_decay * w, w, s);
}

void Apply(const AdamWRule& rule, const ParameterRates& p, double g, double& w, double** s) {
  w = w - p.lr * p.weight_decay * w;
  AdamStep(rule.adam, p, g, w, s);
}

// `p.lr` has the trust ratio in it.
void Apply(const LarsRule&, const ParameterRates& p, double g, double& w, double** s) {
  double& v = *s[0];
  v = p.momentum * v + p.lr * (g + p.weight_decay * w);
  w = w - v;
}

class OracleUpdater final : public Updater {
 public:
  OracleUpdater(const UpdateArenas& arenas, const UpdateOptions& options)
      : arenas_(arenas),
        options_(options),
        rates_(options.ranges.size()),
        scales_(options.ranges.size()),
        table_(static_cast<size_t>(2 * options.table_rows)) {}

  void SetRates(Stream&, std::span<const ParameterRates> rates) override {
    CONVOY_CHECK(rates.size() == rates_.size(), "{} rates", rates.size());
    rates_.assign(rates.begin(), rates.end());
    std::fill(scales_.begin(), scales_.end(), NormScale{});
  }

  Tensor SumSquares(Stream&) override {
    std::fill(table_.begin(), table_.end(), 0.0);
    const bool sums_weights = NeedsWeightNorms(options_.rule);
    for (size_t i = 0; i < rates_.size(); ++i) {
      const UpdateRange& range = options_.ranges[i];
      if (rates_[i].lr == 0) continue;
      double* place = table_.data() + range.first_row;
      for (int64_t row = 0; row < range.rows; ++row) {
        place[row] = SumOfRow(arenas_.gradients, range, row);
        if (!sums_weights) continue;
        place[options_.table_rows + row] = SumOfRow(arenas_.parameters, range, row);
      }
    }
    return {table_.data(), DType::kFloat64, Shape{2, options_.table_rows}};
  }

  void Scale(Stream&) override { scales_ = NormScalesOf(options_, table_.data(), rates_); }

  void Run(Stream&, int bucket) override {
    int32_t* non_finite = arenas_.non_finite.As<int32_t>();
    if (*non_finite != 0) return;
    const auto [first, count] = options_.buckets.at(static_cast<size_t>(bucket));
    for (int64_t i = first; i < first + count; ++i) {
      std::visit([&](const auto& rule) { RunRange(rule, static_cast<size_t>(i), *non_finite); },
                 options_.rule);
    }
  }

 private:
  static double SumOfRow(const Tensor& arena, const UpdateRange& range, int64_t row) {
    const int64_t elements = range.count / range.rows;
    const double* values = arena.As<double>() + range.begin + row * elements;
    double sum = 0;
    for (int64_t i = 0; i < elements; ++i) sum += values[i] * values[i];
    return sum;
  }

  template <typename Rule>
  void RunRange(const Rule& rule, size_t index, int32_t& non_finite) {
    const UpdateRange& range = options_.ranges[index];
    ParameterRates rates = rates_[index];
    if (rates.lr == 0) return;
    rates.lr *= scales_[index].rate;
    double* states[Rule::kStates.size()];
    const UpdateRange::Part part = range.Updated();
    for (int64_t i = part.begin; i < part.begin + part.count; ++i) {
      for (size_t k = 0; k < Rule::kStates.size(); ++k) {
        states[k] = arenas_.states.at(k).As<double>() + part.state_begin + (i - part.begin);
      }
      double& w = arenas_.parameters.As<double>()[i];
      const double g = arenas_.gradients.As<double>()[i] * scales_[index].gradient;
      Apply(rule, rates, g, w, states);
      if (!std::isfinite(g) || !std::isfinite(w)) non_finite = 1;
    }
  }

  UpdateArenas arenas_;
  UpdateOptions options_;
  std::vector<ParameterRates> rates_;
  std::vector<NormScale> scales_;
  std::vector<double> table_;
};

}  // namespace

std::unique_ptr<Updater> MakeUpdater(const UpdateArenas& arenas, const UpdateOptions& options) {
  return std::make_unique<OracleUpdater>(arenas, options);
}

}  // namespace convoy::oracle
