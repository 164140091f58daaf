// trainer/run/stragglers.h - how long every rank's own part of a step takes, and which rank the
// others wait for.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "comm/world.h"
#include "core/host/log.h"
#include "trainer/run/metrics.h"

namespace convoy {

// What one rank does in a step without waiting for other ranks, in ms. On a device the host sees
// the waiting for data only.
struct RankTime {
  double own_ms = 0;   // computing, and waiting for its own loader
  double data_ms = 0;  // of that, waiting for its own loader
};

// Ranks that take more than 1.5 times the median of all, slowest first. What they take more is at
// least a tenth of `step_ms`, the time of a whole step, and a millisecond: less holds nobody up. Of
// an even number of ranks the median is the lower middle one, so that one of two can be told from
// the other.
std::vector<int> FindStragglers(const std::vector<RankTime>& times, double step_ms);

// The smallest, the median and the largest of the ranks' own times.
RankTimesMetrics Summarise(const std::vector<RankTime>& times,
                           const std::vector<std::string>& hosts);

// Compares the ranks now and then. Every rank makes the same calls; some of them are collective
// over the world. In a world of one rank it does nothing.
class StragglerWatch {
 public:
  // Steps that are compared at a time.
  static constexpr int kWindow = 20;

  // Both outlive the watch. Warnings and the summary are given to the log of rank 0.
  StragglerWatch(World& world, Log& log) : world_(world), log_(log) {}

  // Counts a step that took `step_ms` in all, `own` of it on this rank. The first step of a run is
  // left out: in it memory and files are touched for the first time. At the end of every window it
  // warns of stragglers: of the same rank once an epoch.
  void Add(const RankTime& own, double step_ms);
  // Says on the log, and in `metrics`, which may be null, how the ranks' own times differed since
  // the last call. `step` and `epoch` are those that have ended.
  void EndEpoch(int64_t step, int64_t epoch, MetricsFile* metrics);

 private:
  struct Sums {
    RankTime own;
    double step_ms = 0;
    int64_t steps = 0;
  };
  // The mean of a step, of every rank. Collective.
  std::vector<RankTime> GatherMeans(const Sums& sums);
  void Warn(const std::vector<RankTime>& times, double step_ms);

  World& world_;
  Log& log_;
  Sums window_, epoch_;
  bool is_first_step_ = true;
  std::set<int> warned_of_;  // in this epoch
};

}  // namespace convoy
