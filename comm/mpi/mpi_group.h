// comm/mpi/mpi_group.h - collectives by MPI, for ranks on several hosts and for memory that peers
// cannot reach.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/host/progress.h"
#include "comm/host/rank_group.h"
#include "comm/mpi/mpi_channel.h"

namespace convoy {

struct MpiGroupParts {
  std::string name;
  MpiLibrary* library = nullptr;  // outlives the group
  MpiChannel channel;
  std::vector<Peer> peers;  // all ranks of the channel
};

std::unique_ptr<RankGroup> MakeMpiGroup(MpiGroupParts parts);

}  // namespace convoy
