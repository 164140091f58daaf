// comm/mpi/mpi_group.h - collectives by MPI, for ranks on several hosts and for memory that peers
// cannot reach.
//
// All-reduce, all-gather and reduce-scatter go over the ranks of a host first if these share
// memory, and then between the hosts (comm/mpi/exchange_plan.h). Data in memory that peers cannot
// reach is copied through memory that they can. The other kinds are those of MPI.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/host/meeting.h"
#include "comm/host/progress.h"
#include "comm/host/rank_group.h"
#include "comm/mpi/host_table.h"
#include "comm/mpi/mpi_channel.h"

namespace convoy {

// What the ranks of one host of the group share.
struct HostParts {
  MeetingParts meeting;
  std::unique_ptr<PeerMemory> memory;
  // ExchangePlan::ScratchBytes() for each of them, one after another by their places.
  std::shared_ptr<std::byte> scratch;
};

struct MpiGroupParts {
  std::string name;
  MpiLibrary* library = nullptr;  // outlives the group
  MpiChannel channel;
  std::vector<Peer> peers;  // all ranks of the channel
  // Ranks that lie on one host by this table move their data through its memory.
  HostTable hosts;
  std::optional<HostParts> host = std::nullopt;  // if there are other ranks on this one
};

std::unique_ptr<RankGroup> MakeMpiGroup(MpiGroupParts parts);

}  // namespace convoy
