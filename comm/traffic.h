// comm/traffic.h - how many bytes a collective brings to a rank, and a table of what was carried.
//
// One convention holds for every count of bytes that cross, predicted or counted: the bytes that a
// rank receives in a collective that wastes none. Of p ranks, that is
//   all-gather, gather at its root    p - 1 blocks
//   reduce-scatter                    p - 1 blocks as large as the rank's own
//   scatter, broadcast                one block, or the data; nothing at the root
//   all-reduce                        a reduce-scatter and an all-gather over even shares: a rank
//                                     with s of N elements gets (p - 1) s, then N - s. That is
//                                     2 (p - 1) / p of the data if p divides N.
//   barrier                           nothing
// A transport may move more, or less over links: ranks of one host read each other's memory.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "core/tensor/dtype.h"

namespace convoy {

// A collective, as one rank of its group sees it.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::kBarrier;
  int64_t block_count = 0;  // Collective::block_count
  DType dtype = DType::kUInt8;
  int rank = 0, ranks = 1;
  int root = 0;
};

// Returns the bytes that it brings to this rank.
constexpr int64_t BytesReceived(const CollectiveCall& call) {
  const int64_t count = call.block_count, others = call.ranks - 1;
  const bool is_root = call.rank == call.root;
  int64_t elements = 0;
  switch (call.kind) {
    case CollectiveKind::kAllReduce: {
      // The first shares are one element longer if they cannot be even.
      const int64_t share = count / call.ranks + (call.rank < count % call.ranks ? 1 : 0);
      elements = others * share + (count - share);
      break;
    }
    case CollectiveKind::kAllGather:
    case CollectiveKind::kReduceScatter:
      elements = others * count;
      break;
    case CollectiveKind::kGather:
      elements = is_root ? others * count : 0;
      break;
    case CollectiveKind::kScatter:
    case CollectiveKind::kBroadcast:
      elements = is_root ? 0 : count;
      break;
    case CollectiveKind::kBarrier:
      break;
  }
  return elements * SizeOf(call.dtype);
}

// Returns "all-reduce".
const char* NameOf(CollectiveKind kind);

// What was carried for one operation.
struct TrafficRow {
  std::string what;  // Collective::what
  CollectiveKind kind = CollectiveKind::kBarrier;
  int64_t calls = 0, bytes = 0;  // bytes: those that this rank received
};

// Counts what a communicator carries. Any thread may call it.
class TrafficCounts {
 public:
  void Add(const char* what, CollectiveKind kind, int64_t bytes);
  // Returns one row for every operation and kind, in the order in which they first came.
  std::vector<TrafficRow> rows() const;
  void Reset();

 private:
  mutable std::mutex mutex_;
  std::vector<TrafficRow> rows_;  // a handful
};

}  // namespace convoy
