// comm/host/progress.h - what ranks can see of each other without each other's help: a few numbers
// that every rank keeps in memory shared by the ranks of its host, and the state of its process.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace convoy {

// A short text that one rank writes while others read it. A reader may see a mix of two texts.
class SharedText {
 public:
  static constexpr size_t kBytes = 48;
  // Keeps the first kBytes - 1 characters.
  void Set(std::string_view text);
  std::string Get() const;

 private:
  std::array<std::atomic<uint64_t>, kBytes / sizeof(uint64_t)> words_{};
};

// Lies in memory shared between processes; zeroed memory is a valid start. That of a rank on
// another host is a copy, which heartbeats bring (comm/host/heartbeat.h).
struct RankProgress {
  std::atomic<int64_t> step{0};
  std::atomic<int64_t> collectives{0};   // that this rank has called
  SharedText last_collective;            // what the last of them was called
  SharedText work;                       // what it does while others may wait for it; empty: a step
  std::atomic<int64_t> last_sign_ns{0};  // steady clock, when one of these changed
  std::atomic<int32_t> process{0};       // 0: a thread of this process
  std::atomic<int32_t> ended{0};         // the rank has left its world

  std::atomic<int32_t> waits{0};  // of its threads, for a collective to end, at this moment
  // Counted by the rank's heartbeat: its beats, those since it began to wait for a collective (0:
  // it does not wait), and those since it began its `work` (0: it has none).
  std::atomic<uint32_t> beats{0}, beats_waiting{0}, beats_working{0};
  std::atomic<int32_t> lost{0};  // set by another rank: it was silent for too long

  void SetStep(int64_t new_step);
  void EnterCollective(const char* what);
  void SetWork(std::string_view what);
  void Sign();
};

// A rank of a group as others know it.
struct Peer {
  int world_rank = 0;
  std::string host;
  RankProgress* progress = nullptr;  // null: nothing is known of it
  bool is_remote = false;            // on another host
};

// What to do about a rank that is lost, and about one that is alive and late: hints of Errors.
inline constexpr char kLostHint[] =
    "see the log of the lost rank and the state of its host; then give the same command again";
inline constexpr char kLateHint[] =
    "see the log of the late rank; if it is only slow, raise --deadline";

// Returns the name of this machine.
std::string HostName();

// Returns whether this process knows what the rank does: it shares memory with it, or hears its
// heartbeat.
bool IsSeen(const Peer& peer);
// The rank will never come: it has left its world, its process is gone, or it was silent for too
// long.
bool IsLost(const Peer& peer);
// Its process exists and is stopped, by a signal or a debugger. Always false for a rank on another
// host.
bool IsStopped(const Peer& peer);
// Returns "rank 2 (node17): step 11, 40 collectives, the last conv5, last sign 5.0 s ago, stopped"
// "rank 2 (node17): step 11, writing a checkpoint, 40 collectives, ..."
std::string Describe(const Peer& peer);
// Returns the same for several, joined by "; ".
std::string Describe(const std::vector<Peer>& peers);

}  // namespace convoy
