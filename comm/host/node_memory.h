// comm/host/node_memory.h - the memory that the ranks of one host share: a table of everybody's
// progress and segments, and the segments themselves.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "comm/host/meeting.h"
#include "comm/host/progress.h"
#include "comm/host/shared_segment.h"
#include "core/device/memory.h"

namespace convoy {

// One rank's view. Thread-safe. Ranks are counted within the host.
class NodeMemory {
 public:
  // `table` has TableBytes(ranks) bytes, zeroed by one of the ranks.
  NodeMemory(std::shared_ptr<void> table, int rank, int ranks);
  ~NodeMemory();

  static int64_t TableBytes(int ranks);

  RankProgress& progress(int rank) const;

  // Zeroed memory that peers can reach; ordinary memory if no more of it can be had. The buffer
  // must not outlive this object.
  Buffer Allocate(int64_t bytes);
  // Returns the place of the data in this rank's segments; segment 0 when it lies elsewhere.
  Exposure Expose(const void* data, int64_t bytes) const;
  // Returns what `rank` exposed, mapped when it is first asked for. Throws (kDevice) when it cannot
  // be mapped.
  std::byte* Reach(int rank, const Exposure& exposure);

 private:
  struct Row;
  Row& RowOf(int rank) const;
  void Release(uint64_t segment);
  void DropReleased(int rank);

  const std::shared_ptr<void> table_;
  const int rank_;
  mutable std::mutex mutex_;
  uint64_t last_segment_ = 0;
  std::map<uint64_t, SharedSegment> own_;                     // by segment
  std::map<std::pair<int, uint64_t>, SharedSegment> mapped_;  // by rank and segment
};

}  // namespace convoy
