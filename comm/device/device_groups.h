// comm/device/device_groups.h - which communicator connects the devices of the ranks.
#pragma once

#include <string>
#include <vector>

#include "comm/grid.h"
#include "comm/world.h"

namespace convoy {

// What the choice depends on. The same list on every rank.
struct RankDevice {
  std::string host;
  std::string uuid;
  int nccl_version = 0;         // as NCCL counts
  bool shares_allowed = false;  // NCCL_MULTI_RANK_GPU_ENABLE is 1
};

// NCCL before 2.30 connects no two ranks of one device, and later ones only if they are told to.
// Throws (kUsage) if NCCL is asked for and cannot, and if ranks have different versions of
// it.
CommunicatorChoice ChooseCommunicator(CommunicatorKind asked, const std::vector<RankDevice>& ranks);

// Returns what every rank has. Collective over the world.
std::vector<RankDevice> GatherDevices(World& world, const RankDevice& own);

}  // namespace convoy
