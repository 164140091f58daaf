#include "dataloader/loading/bad_samples.h"

#include <algorithm>

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

}  // namespace convoy
