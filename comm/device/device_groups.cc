#include "comm/device/device_groups.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "comm/device/nccl.h"

namespace convoy {
namespace {

constexpr int kSharingVersion = 23000;

// Returns "ranks 0 and 1 share GPU-4a5b of node1"; nothing if no two ranks share a device.
std::optional<std::string> FirstSharing(const std::vector<RankDevice>& ranks) {
  for (size_t b = 1; b < ranks.size(); ++b) {
    for (size_t a = 0; a < b; ++a) {
      if (ranks[a].host != ranks[b].host || ranks[a].uuid != ranks[b].uuid) continue;
      return fmt::format("ranks {} and {} share {} of {}", a, b, ranks[a].uuid, ranks[a].host);
    }
  }
  return {};
}

void RequireOneVersion(const std::vector<RankDevice>& ranks) {
  for (size_t r = 1; r < ranks.size(); ++r) {
    if (ranks[r].nccl_version == ranks[0].nccl_version) continue;
    throw Error(ExitCode::kUsage,
                fmt::format("rank 0 on {} has NCCL {}, rank {} on {} has {}", ranks[0].host,
                            NameOfNcclVersion(ranks[0].nccl_version), r, ranks[r].host,
                            NameOfNcclVersion(ranks[r].nccl_version)),
                "install one version on every host, or give --communicator mpi");
  }
}

}  // namespace

CommunicatorChoice ChooseCommunicator(CommunicatorKind asked,
                                      const std::vector<RankDevice>& ranks) {
  if (asked == CommunicatorKind::kMpi) {
    return {.nccl = false, .reason = "by way of host memory, as asked"};
  }
  RequireOneVersion(ranks);
  const std::string nccl = "NCCL " + NameOfNcclVersion(ranks[0].nccl_version);
  const std::optional<std::string> sharing = FirstSharing(ranks);
  if (!sharing) return {.nccl = true, .reason = nccl + ": every rank has a device of its own"};
  const bool allowed = std::all_of(ranks.begin(), ranks.end(), [](const RankDevice& rank) {
    return rank.nccl_version >= kSharingVersion && rank.shares_allowed;
  });
  if (allowed) {
    return {.nccl = true,
            .reason = fmt::format("{}: {}, as NCCL_MULTI_RANK_GPU_ENABLE allows", nccl, *sharing)};
  }
  const std::string obstacle =
      fmt::format("{}, and {} connects such ranks {}", *sharing, nccl,
                  ranks[0].nccl_version < kSharingVersion
                      ? "never (2.30 does, where NCCL_MULTI_RANK_GPU_ENABLE is 1)"
                      : "only where NCCL_MULTI_RANK_GPU_ENABLE is 1");
  if (asked == CommunicatorKind::kNccl) {
    throw Error(ExitCode::kUsage, "NCCL cannot connect these ranks: " + obstacle,
                "start one rank per device, or give --communicator auto or mpi");
  }
  return {.nccl = false, .reason = "by way of host memory: " + obstacle};
}

std::vector<RankDevice> GatherDevices(World& world, const RankDevice& own) {
  struct Row {
    char uuid[96] = {};
    int32_t nccl_version = 0, shares_allowed = 0;
  };
  Row row{.nccl_version = own.nccl_version, .shares_allowed = own.shares_allowed ? 1 : 0};
  std::memcpy(row.uuid, own.uuid.data(), std::min(own.uuid.size(), sizeof(row.uuid) - 1));
  std::vector<Row> rows(static_cast<size_t>(world.size()));
  constexpr int64_t kBytes = sizeof(Row);
  HostStream stream;
  world.all()
      .AllGather(stream, {&row, DType::kUInt8, {kBytes}},
                 {rows.data(), DType::kUInt8, {world.size(), kBytes}}, "devices of the ranks")
      .Wait(stream);
  std::vector<RankDevice> ranks;
  for (size_t r = 0; r < rows.size(); ++r) {
    ranks.push_back({.host = world.hosts()[r],
                     .uuid = rows[r].uuid,
                     .nccl_version = rows[r].nccl_version,
                     .shares_allowed = rows[r].shares_allowed != 0});
  }
  return ranks;
}

CommunicatorChoice ChooseCommunicator(World& world, const GroupOptions& options) {
  if (world.size() == 1 && options.communicator != CommunicatorKind::kNccl) {
    return {.nccl = false, .reason = "one rank: nothing is exchanged"};
  }
  RankDevice own{.uuid = options.device_uuid};
  if (options.communicator != CommunicatorKind::kMpi) {
    const char* shares = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    own.shares_allowed = shares != nullptr && std::string_view(shares) == "1";
    own.nccl_version = NcclVersion();
  }
  return ChooseCommunicator(options.communicator, GatherDevices(world, own));
}

}  // namespace convoy
