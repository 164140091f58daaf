// comm/mpi/heartbeat_link.h - how hosts find each other for their heartbeats: over MPI.
#pragma once

#include <memory>
#include <vector>

#include "comm/host/heartbeat.h"
#include "comm/mpi/mpi_channel.h"

namespace convoy {

// Returns the link of this rank to the other hosts if it speaks for its host; null otherwise, and
// if there is no way to send datagrams. `speakers`: the world ranks that speak, one of each host.
// Collective over the channel of all ranks, which have exchanged something by MPI before: the
// connections that it has made tell which interface it uses.
std::unique_ptr<HeartbeatLink> MakeHeartbeatLink(const MpiChannel& channel,
                                                 const std::vector<int>& speakers);

}  // namespace convoy
