#include <algorithm>

#include "core/error.h"
#include "dataloader/loader.h"

namespace convoy {

int64_t Share::Rows(int64_t global_batch) const {
  const int64_t longest_run = (global_batch + replicas - 1) / replicas;
  return (longest_run + members - 1) / members;
}

std::pair<int64_t, int64_t> Share::Range(int64_t global_batch, int64_t n) const {
  CONVOY_CHECK(0 <= n && n <= global_batch, "{} samples of {}", n, global_batch);
  const int64_t run_begin = n * replica / replicas, run_end = n * (replica + 1) / replicas;
  const int64_t rows = Rows(global_batch);
  return {std::min(run_begin + member * rows, run_end),
          std::min(run_begin + (member + 1) * rows, run_end)};
}

}  // namespace convoy
