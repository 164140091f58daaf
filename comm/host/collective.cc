#include "comm/host/collective.h"

#include <algorithm>

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

// A reduction goes through MPI in pieces, one at a time, because Open MPI allocates a temporary
// array as large as what it is given. Measured with Open MPI 4.1.4, two ranks on two cores, 244 MB
// of fp32 in buckets of 83.5, 151.0 and 9.3 MB, CPU time of a rank: 205 ms whole, 66 ms in pieces
// of 8 MB, 52 ms of 4 MB, 46 ms of 2 MB, 50 ms of 1 MB; two or four pieces at a time cost more.
// While both cores compute, every piece waits for its turn: pieces of 2 MB were not done after 0.8
// s of computing, pieces of 4 MB were. A step of a ring moves one piece / ranks: so larger pieces
// where there are more ranks.
int64_t ReductionPieceBytes(int ranks) {
  constexpr int64_t kOfARankBytes = 2 << 20;
  constexpr int64_t kLargestBytes = 16 << 20;
  return std::min(kLargestBytes, kOfARankBytes * ranks);
}

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
