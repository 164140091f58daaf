#include "layers/cpu/update.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <type_traits>
#include <vector>

#include "layers/cpu/numbers.h"
#include "layers/operations/norm_scales.h"

namespace convoy::cpu {
namespace {

// Threads share no cache line of any arena, not even of the bf16 copy.
constexpr int64_t kGrain = 32;

// Non-zero for Inf and NaN.
inline uint32_t NotFinite(float value) {
  constexpr uint32_t kExponent = 0x7F800000;
  return (std::bit_cast<uint32_t>(value) & kExponent) == kExponent ? 1 : 0;
}

// Sixteen running sums, so that the order of the sum is one and the loop is vectorised.
double SumOfSquares(const float* values, int64_t count) {
  constexpr int kLanes = 16;
  double lanes[kLanes] = {};
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  for (int64_t i = whole; i < count; ++i) {
    const double value = values[i];
    lanes[i - whole] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

template <typename Rule>
class CpuUpdater final : public Updater {
 public:
  CpuUpdater(const UpdateArenas& arenas, const UpdateOptions& options, int threads)
      : options_(options),
        rule_(std::get<Rule>(options.rule)),
        threads_(threads),
        non_finite_(arenas.non_finite.As<int32_t>()),
        given_(options.ranges.size()),
        rates_(options.ranges.size()),
        scales_(options.ranges.size()),
        table_(static_cast<size_t>(2 * options.table_rows)) {
    CONVOY_CHECK(arenas.states.size() == kStateCount, "{} states", arenas.states.size());
    arenas_.w = arenas.parameters.As<float>();
    arenas_.g = arenas.gradients.As<float>();
    for (size_t k = 0; k < kStateCount; ++k) arenas_.states[k] = arenas.states[k].As<float>();
    const bool has_copy = arenas.compute.data != arenas.parameters.data;
    arenas_.copy = has_copy ? arenas.compute.As<BFloat16>() : nullptr;
  }

  void SetRates(Stream&, std::span<const ParameterRates> rates) override {
    CONVOY_CHECK(rates.size() == rates_.size(), "{} rates", rates.size());
    given_.assign(rates.begin(), rates.end());
    for (size_t i = 0; i < rates.size(); ++i) rates_[i] = rule_.RatesOf(rates[i]);
    std::fill(scales_.begin(), scales_.end(), NormScale{});
  }

  Tensor SumSquares(Stream&) override {
    std::fill(table_.begin(), table_.end(), 0.0);
#pragma omp parallel num_threads(threads_)
    for (size_t i = 0; i < given_.size(); ++i) {
      const UpdateRange& range = options_.ranges[i];
      if (given_[i].lr == 0 || range.count == 0) continue;
      const int64_t elements = range.count / range.rows;
      double* place = table_.data() + range.first_row;
#pragma omp for nowait
      for (int64_t row = 0; row < range.rows; ++row) {
        const int64_t begin = range.begin + row * elements;
        place[row] = SumOfSquares(arenas_.g + begin, elements);
        if (!kSumsWeights) continue;
        place[options_.table_rows + row] = SumOfSquares(arenas_.w + begin, elements);
      }
    }
    return {table_.data(), DType::kFloat64, Shape{2, options_.table_rows}};
  }

  void Scale(Stream&) override {
    scales_ = NormScalesOf(options_, table_.data(), given_);
    for (size_t i = 0; i < rates_.size(); ++i) {
      rates_[i].lr = static_cast<float>(rates_[i].lr * scales_[i].rate);
    }
  }

  void Run(Stream&, int bucket) override {
    if (*non_finite_ != 0) return;
    const auto [first, count] = options_.buckets.at(static_cast<size_t>(bucket));
    int bad = 0;
#pragma omp parallel num_threads(threads_) reduction(| : bad)
    for (int64_t i = first; i < first + count; ++i) {
      const auto index = static_cast<size_t>(i);
      if (given_[index].lr == 0) continue;
      const UpdateRange::Part part = options_.ranges[index].Updated();
      const Part grains =
          PartOf((part.count + kGrain - 1) / kGrain, omp_get_thread_num(), omp_get_num_threads());
      bad |=
          UpdateSpan(index, part, grains.begin * kGrain, std::min(part.count, grains.end * kGrain));
    }
    if (bad != 0) *non_finite_ = 1;
  }

 private:
  static constexpr size_t kStateCount = Rule::kStates.size();
  static_assert(kStateCount == 1 || kStateCount == 2);
  static constexpr bool kSumsWeights = std::is_same_v<Rule, LarsRule>;
  struct Arenas {
    float* w = nullptr;
    const float* g = nullptr;
    std::array<float*, kStateCount> states{};
    BFloat16* copy = nullptr;  // null if there is none
  };

  // Returns whether anything in [begin, end) of the part was not finite.
  bool UpdateSpan(size_t index, const UpdateRange::Part& part, int64_t begin, int64_t end) const {
    const int64_t count = end - begin;
    if (count <= 0) return false;
    Arenas span = arenas_;
    span.w += part.begin + begin;
    span.g += part.begin + begin;
    for (float*& state : span.states) state += part.state_begin + begin;
    if (span.copy != nullptr) span.copy += part.begin + begin;
    const auto scale = static_cast<float>(scales_[index].gradient);
    const bool is_scaled = scale != 1, has_copy = arenas_.copy != nullptr;
    const auto update = is_scaled ? (has_copy ? &Update<true, true> : &Update<true, false>)
                                  : (has_copy ? &Update<false, true> : &Update<false, false>);
    return update(span, rates_[index], scale, count);
  }

  // Every value is a local of the loop, not an element of an array, and every choice is made before
  // it: so g++ vectorises it, and the pass runs as fast as memory does.
  template <bool kIsScaled, bool kHasCopy>
  static bool Update(const Arenas& arenas, const typename Rule::Rates& given, float scale,
                     int64_t count) {
    const typename Rule::Rates rates = given;
    const std::array<float*, kStateCount> states = arenas.states;
    float* const w = arenas.w;
    const float* const g = arenas.g;
    BFloat16* const copy = arenas.copy;
    uint32_t bad = 0;
#pragma omp simd reduction(| : bad)
    for (int64_t i = 0; i < count; ++i) {
      float gradient = g[i];
      if constexpr (kIsScaled) gradient *= scale;
      float weight = w[i];
      float first = states[0][i];
      if constexpr (kStateCount == 1) {
        Rule::Apply(rates, gradient, weight, first);
      } else {
        float second = states[1][i];
        Rule::Apply(rates, gradient, weight, first, second);
        states[1][i] = second;
      }
      states[0][i] = first;
      w[i] = weight;
      if constexpr (kHasCopy) Store(weight, copy + i);
      bad |= NotFinite(gradient) | NotFinite(weight);
    }
    return bad != 0;
  }

  UpdateOptions options_;
  Rule rule_;
  int threads_;
  Arenas arenas_;
  int32_t* non_finite_;
  std::vector<ParameterRates> given_;
  std::vector<typename Rule::Rates> rates_;
  std::vector<NormScale> scales_;
  std::vector<double> table_;
};

}  // namespace

std::unique_ptr<Updater> MakeUpdater(const UpdateArenas& arenas, const UpdateOptions& options,
                                     int threads) {
  return std::visit(
      [&]<typename Rule>(const Rule&) -> std::unique_ptr<Updater> {
        return std::make_unique<CpuUpdater<Rule>>(arenas, options, threads);
      },
      options.rule);
}

void RoundToBFloat16(const Tensor& parameters, const Tensor& compute, int threads) {
  const float* from = parameters.As<float>();
  BFloat16* to = compute.As<BFloat16>();
  const int64_t count = parameters.count();
  CONVOY_CHECK(compute.count() == count, "{} and {}", count, compute.count());
#pragma omp parallel for simd num_threads(threads) schedule(static)
  for (int64_t i = 0; i < count; ++i) to[i] = BFloat16(from[i]);
}

}  // namespace convoy::cpu
