// comm/mpi/patience.h - how a rank waits for MPI: without using a core, and with an end.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/host/progress.h"
#include "comm/mpi/mpi_channel.h"

namespace convoy {

// One rank's waits for the other ranks of a group. Open MPI moves nothing between calls, and its
// blocking calls spin: so the rank asks again and again, and pauses in between.
class Patience {
 public:
  // `library` must outlive it. `peers` are all ranks of the group, this one is `rank`.
  Patience(std::string group, MpiLibrary& library, std::vector<Peer> peers, int rank);

  // May be called from any thread: as RankGroup::GiveUp.
  void GiveUp(const std::string& why);

  // Says that a wait begins, or that something of what was waited for has come.
  void Renew();
  // Sleeps for a moment: the longer, the longer the wait has taken. Throws (kPeer) if the group was
  // given up, or a rank of it is lost; MPI is shut then.
  void Pause(const Collective& collective);

 private:
  using Clock = std::chrono::steady_clock;

  bool AnyoneIsLost() const;
  void GiveUpIfLost();
  void ThrowIfGivenUp(const Collective& collective);
  std::string Behind() const;

  const std::string group_;
  MpiLibrary& library_;
  const std::vector<Peer> peers_;
  const int rank_;
  int pauses_ = 0;  // since Renew
  Clock::time_point start_, next_look_;
  int looks_with_a_loss_ = 0;
  std::mutex mutex_;
  std::string why_;  // guarded by mutex_
};

}  // namespace convoy
