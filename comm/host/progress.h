// comm/host/progress.h - what ranks can see of each other without each other's help: a few numbers
// that every rank keeps in memory shared by the ranks of its host, and the state of its process.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace convoy {

// Lies in memory shared between processes; zeroed memory is a valid start.
struct RankProgress {
  std::atomic<int64_t> step{0};
  std::atomic<int64_t> collectives{0};  // that this rank has called
  // The first characters of what the last of them was called.
  std::array<std::atomic<uint64_t>, 6> last_collective{};
  std::atomic<int64_t> last_sign_ns{0};  // steady clock, when one of these changed
  std::atomic<int32_t> process{0};       // 0: a thread of this process
  std::atomic<int32_t> ended{0};         // the rank has left its world

  void SetStep(int64_t new_step);
  void EnterCollective(const char* what);
  void Sign();
  std::string LastCollective() const;
};

// A rank of a group as others know it.
struct Peer {
  int world_rank = 0;
  std::string host;
  const RankProgress* progress = nullptr;  // null on another host
};

// The name of this machine.
std::string HostName();

// The rank will never come: it has left its world, or its process is gone. Always false for a rank
// on another host.
bool IsLost(const Peer& peer);
// Its process exists and is stopped, by a signal or a debugger. Always false for a rank on another
// host.
bool IsStopped(const Peer& peer);
// "rank 2 (node17): step 11, 40 collectives, the last conv5, last sign 5.0 s ago, stopped"
std::string Describe(const Peer& peer);
// The same for several, joined by "; ".
std::string Describe(const std::vector<Peer>& peers);

}  // namespace convoy
