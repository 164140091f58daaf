#include "comm/communicator.h"

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

Request Communicator::Run(Stream& stream, const Collective& collective) {
  return Submit(stream, Checked(collective, rank(), size()));
}

Request Communicator::AllReduce(Stream& stream, const Tensor& data, ReduceOp op, const char* what) {
  return Run(stream, {.kind = CollectiveKind::kAllReduce, .receive = data, .op = op, .what = what});
}

Request Communicator::AllGather(Stream& stream, const Tensor& send, const Tensor& receive,
                                const char* what) {
  return Run(stream,
             {.kind = CollectiveKind::kAllGather, .send = send, .receive = receive, .what = what});
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
