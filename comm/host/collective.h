// comm/host/collective.h - one collective as data: what the public calls become, and what a group
// runs.
#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "comm/host/progress.h"
#include "comm/world.h"

namespace convoy {

enum class CollectiveKind {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kGather,
  kScatter,
  kBroadcast,
  kBarrier
};

// In-place collectives (all-reduce, broadcast) have their data in `receive`. A tensor that does not
// matter on this rank is empty.
struct Collective {
  CollectiveKind kind = CollectiveKind::kBarrier;
  Tensor send, receive;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  const char* what = "";
  int64_t step = 0;  // of this rank when it called

  // The same on every rank, filled where the tensors are checked. Elements that one rank gives or
  // gets.
  DType dtype = DType::kUInt8;
  int64_t block_count = 0;
  int64_t block_bytes() const { return block_count * SizeOf(dtype); }
};

// An Error that follows from another rank's failure.
class PeerFailure final : public Error {
 public:
  PeerFailure(const std::string& message, const std::string& hint = {})
      : Error(ExitCode::kPeer, message, hint) {}
};

// How one group of ranks carries out collectives. Run is called by one thread at a time.
class RankGroup {
 public:
  virtual ~RankGroup() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Returns when this rank's tensors may be used again. Throws (kPeer). After a failure every
  // further call fails.
  virtual void Run(const Collective& collective) = 0;
  // From any thread. The Run under way, or the next one, soon ends by an Error that says `why`
  // ("waited 5 s") and for which ranks; unless it ends well before that.
  virtual void GiveUp(const std::string& why) = 0;
};

// The public calls, each turned into one Submit.
class CollectiveCommunicator : public Communicator {
 public:
  Request AllReduce(Stream& stream, const Tensor& data, ReduceOp op, const char* what) final;
  Request AllGather(Stream& stream, const Tensor& send, const Tensor& receive,
                    const char* what) final;
  Request ReduceScatter(Stream& stream, const Tensor& send, const Tensor& receive,
                        const char* what) final;
  Request Gather(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                 const char* what) final;
  Request Scatter(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                  const char* what) final;
  Request Broadcast(Stream& stream, const Tensor& data, int root, const char* what) final;
  void Barrier(const char* what) final;

 private:
  // `collective` is checked.
  virtual Request Submit(Stream& stream, const Collective& collective) = 0;
  Request Check(Stream& stream, const Collective& collective);
};

// Runs the collectives of `group` one after another on a thread of its own. Each one that is queued
// and each wait is entered into `progress`, this rank's own, which must outlive the communicator.
std::unique_ptr<Communicator> MakeQueue(std::unique_ptr<RankGroup> group, const std::string& name,
                                        const WorldOptions& options, RankProgress& progress);

// A group of one rank: every collective is a copy. Of host memory: done when the call returns. Of a
// CUDA device's: queued on the caller's stream, which is of that device.
std::unique_ptr<Communicator> MakeSelfCommunicator(Device device = {});

// Reductions go through MPI in pieces of so many bytes. What cuts them at the same places gets the
// same bits.
int64_t ReductionPieceBytes(int ranks);

}  // namespace convoy
