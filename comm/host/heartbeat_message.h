// comm/host/heartbeat_message.h - what one host tells the others of its ranks, as a datagram.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/host/progress.h"

namespace convoy {

// Random bytes that all ranks of a run share: datagrams with another key are of another run.
using HeartbeatKey = std::array<uint8_t, 16>;

struct HeartbeatMessage {
  // One rank of the sender's host, as its RankProgress says.
  struct Rank {
    int32_t world_rank = 0;
    uint32_t beats = 0, beats_waiting = 0, beats_working = 0;
    int64_t step = 0, collectives = 0;
    std::array<char, SharedText::kBytes> last_collective{}, work{};
  };
  // More ranks than this go into several messages, so that each fits into one packet of Ethernet.
  static constexpr size_t kMostRanks = 8;

  HeartbeatKey key{};
  int32_t lost_rank = -1;  // a rank that the sender holds for lost; -1: none
  std::vector<Rank> ranks;
};

std::vector<std::byte> Encode(const HeartbeatMessage& message);
// Nothing if the bytes are no message of a run with this key.
std::optional<HeartbeatMessage> DecodeHeartbeat(std::span<const std::byte> bytes,
                                                const HeartbeatKey& key);

// What `progress` says now.
HeartbeatMessage::Rank SnapshotOf(int world_rank, const RankProgress& progress);
// Copies a snapshot into this host's copy of that rank's progress. An older one than that copy
// (datagrams may overtake each other) is ignored.
void TakeSnapshot(const HeartbeatMessage::Rank& rank, RankProgress& copy);

}  // namespace convoy
