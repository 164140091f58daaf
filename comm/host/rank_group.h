// comm/host/rank_group.h - how one group of ranks carries out collectives, and the communicators
// that stand on it.
#pragma once

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

}  // namespace convoy
