// comm/host/rank_group.h - how one group of ranks carries out collectives, and the communicators
// that stand on it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "comm/collective.h"
#include "comm/communicator.h"
#include "comm/host/progress.h"
#include "comm/world.h"
#include "core/error.h"

namespace convoy {

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
  // May be called from any thread. The Run under way, or the next one, soon ends by an Error that
  // says `why` ("waited 5 s") and for which ranks, unless it ends well before that.
  virtual void GiveUp(const std::string& why) = 0;
};

// Runs the collectives of `group` one after another on a thread of its own. Each one that is queued
// and each wait is entered into `progress`, this rank's own, which must outlive the communicator.
std::unique_ptr<Communicator> MakeQueue(std::unique_ptr<RankGroup> group, const std::string& name,
                                        const WorldOptions& options, RankProgress& progress);

// A group of one rank: every collective is a copy. Of host memory: done when the call returns. Of a
// CUDA device's: queued on the caller's stream, which is of that device.
std::unique_ptr<Communicator> MakeSelfCommunicator(Device device = {});

// Returns the bytes of a piece of a reduction. Two callers that use the same pieces get the same
// bits.
//
// A reduction goes through MPI in pieces, one at a time, because Open MPI allocates a temporary
// array as large as what it is given. Measured with Open MPI 4.1.4, two ranks on two cores, 244 MB
// of fp32 in buckets of 83.5, 151.0 and 9.3 MB, CPU time of a rank: 205 ms whole, 66 ms in pieces
// of 8 MB, 52 ms of 4 MB, 46 ms of 2 MB, 50 ms of 1 MB; two or four pieces at a time cost more.
// While both cores compute, every piece waits for its turn: pieces of 2 MB were not done after 0.8
// s of computing, pieces of 4 MB were. A step of a ring moves one piece / ranks: so pieces grow
// with the number of ranks.
inline int64_t ReductionPieceBytes(int ranks) {
  constexpr int64_t kOfARankBytes = 2 << 20;
  constexpr int64_t kLargestBytes = 16 << 20;
  return std::min(kLargestBytes, kOfARankBytes * ranks);
}

}  // namespace convoy
