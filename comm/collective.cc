#include "comm/collective.h"

namespace convoy {
namespace {

void CheckBlocks(const Collective& collective, const Tensor& blocks, const Tensor& block,
                 int size) {
  CONVOY_CHECK(blocks.dtype == block.dtype && blocks.count() == size * block.count(),
               "{}: {} {} is not {} blocks of {} {}", collective.what, NameOf(blocks.dtype),
               blocks.shape.ToString(), size, NameOf(block.dtype), block.shape.ToString());
}

// Checks shapes and types, empties tensors that do not matter on this rank, and fills dtype and
// block_count.
Collective Checked(Collective collective, int rank, int size) {
  CONVOY_CHECK(collective.root >= 0 && collective.root < size, "{}: root {} of {} ranks",
               collective.what, collective.root, size);
  const bool is_root = collective.root == rank;
  const Tensor* block = &collective.receive;
  switch (collective.kind) {
    case CollectiveKind::kAllReduce:
    case CollectiveKind::kBroadcast:
      break;
    case CollectiveKind::kAllGather:
      block = &collective.send;
      CheckBlocks(collective, collective.receive, collective.send, size);
      break;
    case CollectiveKind::kReduceScatter:
      CheckBlocks(collective, collective.send, collective.receive, size);
      break;
    case CollectiveKind::kGather:
      block = &collective.send;
      if (is_root) CheckBlocks(collective, collective.receive, collective.send, size);
      if (!is_root) collective.receive = {};
      break;
    case CollectiveKind::kScatter:
      if (is_root) CheckBlocks(collective, collective.send, collective.receive, size);
      if (!is_root) collective.send = {};
      break;
    case CollectiveKind::kBarrier:
      return collective;
  }
  collective.dtype = block->dtype;
  collective.block_count = block->count();
  const bool reduces = collective.kind == CollectiveKind::kAllReduce ||
                       collective.kind == CollectiveKind::kReduceScatter;
  CONVOY_CHECK(!reduces || collective.dtype != DType::kUInt8, "{}: u8 is not reduced",
               collective.what);
  return collective;
}

}  // namespace

Request CollectiveCommunicator::Check(Stream& stream, const Collective& collective) {
  return Submit(stream, Checked(collective, rank(), size()));
}

Request CollectiveCommunicator::AllReduce(Stream& stream, const Tensor& data, ReduceOp op,
                                          const char* what) {
  return Check(stream,
               {.kind = CollectiveKind::kAllReduce, .receive = data, .op = op, .what = what});
}

Request CollectiveCommunicator::AllGather(Stream& stream, const Tensor& send, const Tensor& receive,
                                          const char* what) {
  return Check(
      stream, {.kind = CollectiveKind::kAllGather, .send = send, .receive = receive, .what = what});
}

Request CollectiveCommunicator::ReduceScatter(Stream& stream, const Tensor& send,
                                              const Tensor& receive, const char* what) {
  return Check(
      stream,
      {.kind = CollectiveKind::kReduceScatter, .send = send, .receive = receive, .what = what});
}

Request CollectiveCommunicator::Gather(Stream& stream, const Tensor& send, const Tensor& receive,
                                       int root, const char* what) {
  return Check(stream, {.kind = CollectiveKind::kGather,
                        .send = send,
                        .receive = receive,
                        .root = root,
                        .what = what});
}

Request CollectiveCommunicator::Scatter(Stream& stream, const Tensor& send, const Tensor& receive,
                                        int root, const char* what) {
  return Check(stream, {.kind = CollectiveKind::kScatter,
                        .send = send,
                        .receive = receive,
                        .root = root,
                        .what = what});
}

Request CollectiveCommunicator::Broadcast(Stream& stream, const Tensor& data, int root,
                                          const char* what) {
  return Check(stream,
               {.kind = CollectiveKind::kBroadcast, .receive = data, .root = root, .what = what});
}

void CollectiveCommunicator::Barrier(const char* what) {
  HostStream stream;
  Check(stream, {.kind = CollectiveKind::kBarrier, .what = what}).Wait(stream);
}

}  // namespace convoy
