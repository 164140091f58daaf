#include "layers/operations/norm_scales.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace convoy {
namespace {

double NormOf(const double* squares, int64_t rows) {
  return std::sqrt(std::accumulate(squares, squares + rows, 0.0));
}

}  // namespace

bool NeedsWeightNorms(const UpdateRule& rule) { return std::holds_alternative<LarsRule>(rule); }

bool NeedsNorms(const UpdateOptions& options) {
  return options.clip_norm > 0 || NeedsWeightNorms(options.rule);
}

std::vector<NormScale> NormScalesOf(const UpdateOptions& options, const double* table,
                                    std::span<const ParameterRates> rates) {
  NormScale all;
  if (options.clip_norm > 0) {
    const double norm = NormOf(table, options.table_rows);
    all.gradient = std::min(1.0, options.clip_norm / (norm + kClipEpsilon));
  }
  std::vector<NormScale> scales(options.ranges.size(), all);
  const auto* lars = std::get_if<LarsRule>(&options.rule);
  if (lars == nullptr) return scales;
  for (size_t i = 0; i < scales.size(); ++i) {
    const UpdateRange& range = options.ranges[i];
    if (!range.adapts) continue;
    const double* squares = table + range.uncut_first_row;
    const double gradient = all.gradient * NormOf(squares, range.uncut_rows);
    const double weight = NormOf(squares + options.table_rows, range.uncut_rows);
    if (gradient == 0 || weight == 0) continue;
    scales[i].rate = lars->eta * weight / (gradient + rates[i].weight_decay * weight);
  }
  return scales;
}

}  // namespace convoy
