// comm/collective.h - one collective as data: what the calls of a Communicator become.
//
// A new kind of collective is a call in communicator.h, a row in TraitsOf, and its implementation
// in the transports: host/board_group.cc, mpi/mpi_group.cc and device/nccl_group.cc.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace convoy {

enum class ReduceOp { kSum, kMax, kMin };

enum class CollectiveKind {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kGather,
  kScatter,
  kBroadcast,
  kBarrier
};

// Which tensor holds one block per rank, [size, ...]. kNone: the data is one block, in `receive`.
enum class RankBlocks { kNone, kInSend, kInReceive };

// What kinds of collectives have in common. Code that asks these needs no change for a new kind.
struct CollectiveTraits {
  bool moves_data = true;
  bool reduces = false;   // combines what the ranks give by `op`
  bool has_root = false;  // one rank gives or gets everything
  RankBlocks blocks = RankBlocks::kNone;
};

constexpr CollectiveTraits TraitsOf(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllReduce:
      return {.reduces = true};
    case CollectiveKind::kAllGather:
      return {.blocks = RankBlocks::kInReceive};
    case CollectiveKind::kReduceScatter:
      return {.reduces = true, .blocks = RankBlocks::kInSend};
    case CollectiveKind::kGather:
      return {.has_root = true, .blocks = RankBlocks::kInReceive};
    case CollectiveKind::kScatter:
      return {.has_root = true, .blocks = RankBlocks::kInSend};
    case CollectiveKind::kBroadcast:
      return {.has_root = true};
    case CollectiveKind::kBarrier:
      break;
  }
  return {.moves_data = false};
}

struct Collective {
  CollectiveKind kind = CollectiveKind::kBarrier;
  Tensor send, receive;  // a tensor that does not matter on this rank is empty
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  const char* what = "";  // names the operation in messages
  int64_t step = 0;       // of this rank when it called

  // Filled by Communicator::Run; the same on every rank. Elements that one rank gives or gets.
  DType dtype = DType::kUInt8;
  int64_t block_count = 0;

  CollectiveTraits traits() const { return TraitsOf(kind); }
  int64_t block_bytes() const { return block_count * SizeOf(dtype); }
};

}  // namespace convoy
