// comm/host/meeting.h - how ranks that can reach each other's memory carry out a collective
// together: threads of one process, or processes of one host.
//
// The ranks meet on a board in memory that all of them have. A collective has two phases: every
// rank says what it calls and at what address its data lies, and waits for all; then each moves or
// adds its part straight from and to the others' memory, and waits for all again. Waiting sleeps in
// the kernel (futex) and costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/host/progress.h"

namespace convoy {

// The place of a rank's data, in terms that its peers understand. Segment 0: out of their reach.
struct Exposure {
  uint64_t segment = 0;
  uint64_t offset = 0;
};

// How peers find each other's data. Called by one thread at a time.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  virtual Exposure Expose(const void* data, int64_t bytes) = 0;
  // Returns what `peer` (its rank in the meeting) exposed, as an address of this process.
  virtual std::byte* Reach(int peer, const Exposure& exposure) = 0;
};

// Whether a rank may leave while its peers still move data. Not when they are threads of the same
// process: its memory would be freed under their hands.
enum class LeaveDuringTransfer { kNo, kYes };

struct MeetingParts {
  std::string name;  // of the group, for messages
  int rank = 0;
  std::vector<Peer> peers;      // all ranks that meet, this one included
  std::shared_ptr<void> board;  // BoardBytes(size) bytes, zeroed by one of the ranks
  LeaveDuringTransfer leave = LeaveDuringTransfer::kNo;
};

// Returns the bytes of a board on which so many ranks meet.
int64_t BoardBytes(int ranks);

// One rank's part in the meetings on one board. Run is called by one thread at a time.
class Meeting {
 public:
  explicit Meeting(MeetingParts parts);
  // Peers that still call get an Error at once.
  ~Meeting();
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  int rank() const { return parts_.rank; }
  int size() const { return static_cast<int>(parts_.peers.size()); }

  // Carries out one collective: `move` moves this rank's part of the data while all ranks are
  // there. Returns when all of them have moved theirs. Throws (kPeer) as RankGroup::Run does, and
  // what `move` throws; all ranks fail then.
  void Run(const Collective& collective, const Exposure& own, const std::function<void()>& move);
  // Returns what a rank exposed. Called by `move`.
  const Exposure& ExposureOf(int rank) const;
  // As RankGroup::GiveUp.
  void GiveUp(const std::string& why);

 private:
  struct Call;
  struct Slot;
  struct Board;
  friend int64_t BoardBytes(int ranks);

  const Peer& Self() const { return parts_.peers[static_cast<size_t>(parts_.rank)]; }
  size_t slots() const { return parts_.peers.size(); }
  static std::string Describe(const Call& call);
  void Publish(const Collective& collective, const Exposure& own);
  void Arrive(const Collective& collective);
  uint64_t Arrivals(uint32_t phase) const { return static_cast<uint64_t>(phase) * slots(); }
  bool Reached(uint32_t phase) const;
  void AwaitChange(const Collective& collective, uint32_t phase);
  bool SomebodyIsLost(uint32_t phase) const;
  std::vector<Peer> Missing(uint32_t phase) const;
  std::string Message(const Collective& collective, const std::string& why,
                      const std::vector<Peer>& missing) const;
  bool Break(const std::string& reason);
  void ThrowIfGivenUp(const Collective& collective, const std::vector<Peer>& missing);
  [[noreturn]] void ThrowBroken() const;
  void FailTransfer(const Collective& collective, const std::string& reason);
  void ThrowIfAPeerFailed(const Collective& collective) const;
  void CheckSameCall() const;

  const MeetingParts parts_;
  Board* const board_;
  Slot* const slots_;
  Slot& own_;
  std::mutex mutex_;
  std::string why_;  // this rank was told to give up; guarded by mutex_
};

}  // namespace convoy
