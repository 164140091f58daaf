#include "comm/communicator.h"

#include <algorithm>

namespace convoy {
namespace {

// Checks shapes and types, empties tensors that do not matter on this rank, and fills dtype and
// block_count.
Collective Checked(Collective collective, int rank, int size) {
  CONVOY_CHECK(collective.root >= 0 && collective.root < size, "{}: root {} of {} ranks",
               collective.what, collective.root, size);
  const CollectiveTraits traits = collective.traits();
  if (!traits.moves_data) return collective;
  const bool has_block_per_rank = traits.blocks != RankBlocks::kNone;
  const bool in_send = traits.blocks == RankBlocks::kInSend;
  Tensor& blocks = in_send ? collective.send : collective.receive;
  const Tensor block =
      traits.blocks == RankBlocks::kInReceive ? collective.send : collective.receive;
  if (has_block_per_rank && traits.has_root && collective.root != rank) {
    blocks = {};
  } else if (has_block_per_rank) {
    CONVOY_CHECK(blocks.dtype == block.dtype && blocks.count() == size * block.count(),
                 "{}: {} {} is not {} blocks of {} {}", collective.what, NameOf(blocks.dtype),
                 blocks.shape.ToString(), size, NameOf(block.dtype), block.shape.ToString());
  }
  collective.dtype = block.dtype;
  collective.block_count = block.count();
  CONVOY_CHECK(!traits.reduces || collective.dtype != DType::kUInt8, "{}: u8 is not reduced",
               collective.what);
  return collective;
}

}  // namespace

const char* NameOf(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllReduce:
      return "all-reduce";
    case CollectiveKind::kAllGather:
      return "all-gather";
    case CollectiveKind::kReduceScatter:
      return "reduce-scatter";
    case CollectiveKind::kGather:
      return "gather";
    case CollectiveKind::kScatter:
      return "scatter";
    case CollectiveKind::kBroadcast:
      return "broadcast";
    case CollectiveKind::kBarrier:
      break;
  }
  return "barrier";
}

void TrafficCounts::Add(const char* what, CollectiveKind kind, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  auto row = std::find_if(rows_.begin(), rows_.end(), [&](const TrafficRow& one) {
    return one.kind == kind && one.what == what;
  });
  if (row == rows_.end()) row = rows_.insert(row, {.what = what, .kind = kind});
  ++row->calls;
  row->bytes += bytes;
}

std::vector<TrafficRow> TrafficCounts::rows() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

void TrafficCounts::Reset() {
  const std::lock_guard lock(mutex_);
  rows_.clear();
}

Request Communicator::Run(Stream& stream, const Collective& collective) {
  const Collective checked = Checked(collective, rank(), size());
  if (checked.traits().moves_data) {
    traffic_.Add(checked.what, checked.kind,
                 BytesReceived({.kind = checked.kind,
                                .block_count = checked.block_count,
                                .dtype = checked.dtype,
                                .rank = rank(),
                                .ranks = size(),
                                .root = checked.root}));
  }
  return Submit(stream, checked);
}

Request Communicator::AllReduce(Stream& stream, const Tensor& data, ReduceOp op, const char* what) {
  return Run(stream, {.kind = CollectiveKind::kAllReduce, .receive = data, .op = op, .what = what});
}

Request Communicator::AllGather(Stream& stream, const Tensor& send, const Tensor& receive,
                                const char* what) {
  return Run(stream,
             {.kind = CollectiveKind::kAllGather, .send = send, .receive = receive, .what = what});
}

Request Communicator::AllGatherInPlace(Stream& stream, const Tensor& blocks, const char* what) {
  return AllGather(stream, OwnBlockOf(blocks), blocks, what);
}

Tensor Communicator::OwnBlockOf(const Tensor& blocks) const {
  const int64_t block = blocks.count() / size();
  return blocks.Range(rank() * block, block);
}

Request Communicator::ReduceScatter(Stream& stream, const Tensor& send, const Tensor& receive,
                                    const char* what) {
  return Run(
      stream,
      {.kind = CollectiveKind::kReduceScatter, .send = send, .receive = receive, .what = what});
}

Request Communicator::Gather(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                             const char* what) {
  return Run(stream, {.kind = CollectiveKind::kGather,
                      .send = send,
                      .receive = receive,
                      .root = root,
                      .what = what});
}

Request Communicator::Scatter(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                              const char* what) {
  return Run(stream, {.kind = CollectiveKind::kScatter,
                      .send = send,
                      .receive = receive,
                      .root = root,
                      .what = what});
}

Request Communicator::Broadcast(Stream& stream, const Tensor& data, int root, const char* what) {
  return Run(stream,
             {.kind = CollectiveKind::kBroadcast, .receive = data, .root = root, .what = what});
}

void Communicator::Barrier(const char* what) {
  HostStream stream;
  Run(stream, {.kind = CollectiveKind::kBarrier, .what = what}).Wait(stream);
}

}  // namespace convoy
