// comm/host/board_group.h - collectives of ranks that can reach each other's memory: threads of one
// process, or processes of one host. They meet as comm/host/meeting.h says.
#pragma once

#include <memory>

#include "comm/host/meeting.h"
#include "comm/host/rank_group.h"

namespace convoy {

struct BoardGroupParts {
  MeetingParts meeting;
  std::unique_ptr<PeerMemory> memory;
  // Carries out what lies in memory that peers cannot reach. Null if there is no such memory.
  std::unique_ptr<RankGroup> fallback;
};

std::unique_ptr<RankGroup> MakeBoardGroup(BoardGroupParts parts);

}  // namespace convoy
