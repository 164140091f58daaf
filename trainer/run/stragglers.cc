#include "trainer/run/stragglers.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/text.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

constexpr double kTimesMedian = 1.5;
constexpr double kShareOfStep = 0.1, kLeastMs = 1;
// More than these do not fit into a line.
constexpr size_t kMostNamed = 4, kMostListed = 32;

// Ranks, fastest first.
std::vector<int> ByTime(const std::vector<RankTime>& times) {
  std::vector<int> ranks(times.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) {
    return times[static_cast<size_t>(a)].own_ms < times[static_cast<size_t>(b)].own_ms;
  });
  return ranks;
}

double MedianOf(const std::vector<RankTime>& times) {
  const std::vector<int> ranks = ByTime(times);
  return times[static_cast<size_t>(ranks[(ranks.size() - 1) / 2])].own_ms;
}

// "12.1, 12.3, 20.4", of all ranks in their order, or of the slowest.
std::string ListTimes(const std::vector<RankTime>& times) {
  std::vector<std::string> parts;
  if (times.size() <= kMostListed) {
    for (const RankTime& time : times) parts.push_back(fmt::format("{:.1f}", time.own_ms));
    return fmt::format("ms by rank: {}", fmt::join(parts, ", "));
  }
  const std::vector<int> ranks = ByTime(times);
  for (size_t i = 0; i < kMostListed; ++i) {
    const int rank = ranks[ranks.size() - 1 - i];
    parts.push_back(fmt::format("{}: {:.1f}", rank, times[static_cast<size_t>(rank)].own_ms));
  }
  return fmt::format("ms of the slowest ranks: {}", fmt::join(parts, ", "));
}

void AddTo(RankTime& sum, const RankTime& time) {
  sum.own_ms += time.own_ms;
  sum.data_ms += time.data_ms;
}

}  // namespace

std::vector<int> FindStragglers(const std::vector<RankTime>& times, double step_ms) {
  const double median = MedianOf(times);
  std::vector<int> ranks = ByTime(times);
  std::reverse(ranks.begin(), ranks.end());
  const auto keeps_up = [&](int rank) {
    const double own = times[static_cast<size_t>(rank)].own_ms;
    return own <= kTimesMedian * median ||
           own - median < std::max(kLeastMs, kShareOfStep * step_ms);
  };
  ranks.erase(std::find_if(ranks.begin(), ranks.end(), keeps_up), ranks.end());
  return ranks;
}

RankTimesMetrics Summarise(const std::vector<RankTime>& times,
                           const std::vector<std::string>& hosts) {
  const std::vector<int> ranks = ByTime(times);
  const auto slowest = static_cast<size_t>(ranks.back());
  return {.min_ms = times[static_cast<size_t>(ranks.front())].own_ms,
          .median_ms = MedianOf(times),
          .max_ms = times[slowest].own_ms,
          .slowest_rank = ranks.back(),
          .slowest_host = hosts[slowest]};
}

void StragglerWatch::Add(const RankTime& own, double step_ms) {
  if (world_.size() == 1) return;
  if (is_first_step_) {
    is_first_step_ = false;
    return;
  }
  for (Sums* sums : {&window_, &epoch_}) {
    AddTo(sums->own, own);
    sums->step_ms += step_ms;
    ++sums->steps;
  }
  if (window_.steps < kWindow) return;
  const std::vector<RankTime> times = GatherMeans(window_);
  if (world_.rank() == 0) Warn(times, window_.step_ms / static_cast<double>(window_.steps));
  window_ = {};
}

void StragglerWatch::EndEpoch(int64_t step, int64_t epoch, MetricsFile* metrics) {
  if (epoch_.steps == 0) return;  // on all ranks alike
  RankTimesMetrics summary = Summarise(GatherMeans(epoch_), world_.hosts());
  summary.step = step;
  summary.epoch = epoch;
  log_.Info(
      "ranks: {:.1f} to {:.1f} ms a step without waiting for each other, median {:.1f}; slowest: "
      "rank {} ({})",
      summary.min_ms, summary.max_ms, summary.median_ms, summary.slowest_rank,
      summary.slowest_host);
  if (metrics != nullptr) metrics->Add(summary);
  epoch_ = {};
  warned_of_.clear();
}

std::vector<RankTime> StragglerWatch::GatherMeans(const Sums& sums) {
  const auto steps = static_cast<double>(sums.steps);
  return GatherRows(world_, RankTime{sums.own.own_ms / steps, sums.own.data_ms / steps},
                    "times of the ranks");
}

void StragglerWatch::Warn(const std::vector<RankTime>& times, double step_ms) {
  std::vector<std::string> named;
  for (const int rank : FindStragglers(times, step_ms)) {
    if (!warned_of_.insert(rank).second || named.size() == kMostNamed) continue;
    const RankTime& time = times[static_cast<size_t>(rank)];
    named.push_back(
        fmt::format("rank {} ({}) takes {:.1f} ms a step ({:.1f} of them for its loader)", rank,
                    world_.hosts()[static_cast<size_t>(rank)], time.own_ms, time.data_ms));
  }
  if (named.empty()) return;
  log_.Warning(
      "slow ranks hold the others up: {}, the median rank {:.1f} ms without waiting for others; "
      "{}; look for other programs, heat or slow storage there",
      fmt::join(named, ", "), MedianOf(times), ListTimes(times));
}

}  // namespace convoy
