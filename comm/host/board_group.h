// comm/host/board_group.h - collectives of ranks that can reach each other's memory: threads of one
// process, or processes of one host.
//
// The ranks meet on a board in memory that all of them have. A collective has two phases: every
// rank says what it calls and at what address its data lies, and waits for all; then each moves or
// adds its part straight from and to the others' memory, and waits for all again. Waiting sleeps in
// the kernel (futex) and costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/host/progress.h"
#include "comm/host/rank_group.h"

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
  // Returns what `peer` (its rank in the group) exposed, as an address of this process.
  virtual std::byte* Reach(int peer, const Exposure& exposure) = 0;
};

// Whether a rank may leave while its peers still move data. Not when they are threads of the same
// process: its memory would be freed under their hands.
enum class LeaveDuringTransfer { kNo, kYes };

struct BoardGroupParts {
  std::string name;
  int rank = 0;
  std::vector<Peer> peers;      // all ranks of the group, this one included
  std::shared_ptr<void> board;  // BoardBytes(size) bytes, zeroed by one of the ranks
  std::unique_ptr<PeerMemory> memory;
  LeaveDuringTransfer leave = LeaveDuringTransfer::kNo;
  // Carries out what lies in memory that peers cannot reach. Null if there is no such memory.
  std::unique_ptr<RankGroup> fallback;
};

int64_t BoardBytes(int ranks);
std::unique_ptr<RankGroup> MakeBoardGroup(BoardGroupParts parts);

}  // namespace convoy
