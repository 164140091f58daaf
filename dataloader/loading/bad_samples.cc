#include "dataloader/loading/bad_samples.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"

namespace convoy {

BadSample BadSampleOf(const Dataset& dataset, int64_t sample, const std::string& reason) {
  return {.name = dataset.Name(sample),
          .location = dataset.Location(sample),
          .reason = reason,
          .epoch = 0,
          .position = sample,
          .replaced_by = {}};
}

void SortByPosition(std::vector<BadSample>& samples) {
  std::stable_sort(samples.begin(), samples.end(),
                   [](const BadSample& a, const BadSample& b) { return a.position < b.position; });
}

int64_t BadSampleLimit(std::optional<int64_t> asked, int64_t images) {
  if (asked == kNoBadSampleLimit) return kNoBadSampleLimit;
  const int64_t limit = asked.value_or(std::max<int64_t>(8, images / 1000));
  return std::min(limit, std::max<int64_t>(images - 1, 0));
}

int64_t CountBadPositions(const std::vector<BadSample>& bad) {
  int64_t count = 0;
  for (size_t i = 0; i < bad.size(); ++i) {
    count += i == 0 || bad[i].position != bad[i - 1].position ? 1 : 0;
  }
  return count;
}

std::string DescribeLeftOut(int64_t bad) {
  return bad > 0 ? fmt::format(" ({} bad ones left out)", FormatCount(bad)) : std::string();
}

void BadSampleCount::Add(int64_t epoch, int64_t found) {
  if (epoch != epoch_) found_ = 0;
  epoch_ = epoch;
  found_ += found;
}

Error TooManyBadSamples(int64_t found, const std::string& where, int64_t limit,
                        const BadSample& last) {
  return {ExitCode::kData,
          fmt::format("{} bad samples{}, at most {} expected; the last is {} ({}): {}", found,
                      where, limit, last.name, last.location, last.reason),
          "check the data set with: convoy data verify"};
}

Error BadSampleCount::TooManyError(const BadSample& last) const {
  return TooManyBadSamples(found_, fmt::format(" in epoch {}", epoch_), limit_, last);
}

}  // namespace convoy
