#include "comm/host/heartbeat_message.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace convoy {
namespace {

// Numbers are in the byte order of the machine: all hosts of a run have the same program.
struct Header {
  std::array<char, 8> magic{'C', 'O', 'N', 'V', 'O', 'Y', 'H', '1'};
  HeartbeatKey key{};
  int32_t lost_rank = -1;
  uint32_t ranks = 0;
};

static_assert(std::is_trivially_copyable_v<Header>);
static_assert(std::is_trivially_copyable_v<HeartbeatMessage::Rank>);

std::array<char, SharedText::kBytes> CharactersOf(const SharedText& text) {
  std::array<char, SharedText::kBytes> characters{};
  const std::string now = text.Get();
  std::copy_n(now.begin(), std::min(now.size(), characters.size() - 1), characters.begin());
  return characters;
}

std::string_view TextOf(const std::array<char, SharedText::kBytes>& characters) {
  return {characters.data(), strnlen(characters.data(), characters.size())};
}

}  // namespace

std::vector<std::byte> Encode(const HeartbeatMessage& message) {
  Header header;
  header.key = message.key;
  header.lost_rank = message.lost_rank;
  header.ranks = static_cast<uint32_t>(message.ranks.size());
  const size_t rank_bytes = message.ranks.size() * sizeof(HeartbeatMessage::Rank);
  std::vector<std::byte> bytes(sizeof(header) + rank_bytes);
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (rank_bytes > 0) std::memcpy(bytes.data() + sizeof(header), message.ranks.data(), rank_bytes);
  return bytes;
}

std::optional<HeartbeatMessage> DecodeHeartbeat(std::span<const std::byte> bytes,
                                                const HeartbeatKey& key) {
  Header header;
  if (bytes.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != Header{}.magic || header.key != key ||
      header.ranks > HeartbeatMessage::kMostRanks ||
      bytes.size() != sizeof(header) + header.ranks * sizeof(HeartbeatMessage::Rank)) {
    return std::nullopt;
  }
  HeartbeatMessage message{.key = key, .lost_rank = header.lost_rank, .ranks = {}};
  message.ranks.resize(header.ranks);
  if (header.ranks > 0) {
    std::memcpy(message.ranks.data(), bytes.data() + sizeof(header), bytes.size() - sizeof(header));
  }
  return message;
}

HeartbeatMessage::Rank SnapshotOf(int world_rank, const RankProgress& progress) {
  return {.world_rank = world_rank,
          .beats = progress.beats.load(std::memory_order_relaxed),
          .beats_waiting = progress.beats_waiting.load(std::memory_order_relaxed),
          .beats_working = progress.beats_working.load(std::memory_order_relaxed),
          .step = progress.step.load(std::memory_order_relaxed),
          .collectives = progress.collectives.load(std::memory_order_relaxed),
          .last_collective = CharactersOf(progress.last_collective),
          .work = CharactersOf(progress.work)};
}

void TakeSnapshot(const HeartbeatMessage::Rank& rank, RankProgress& copy) {
  // Counters may wrap: the difference tells which one is newer.
  const uint32_t ahead = rank.beats - copy.beats.load(std::memory_order_relaxed);
  if (ahead == 0 || ahead > UINT32_MAX / 2) return;
  const bool has_moved = rank.step != copy.step.load(std::memory_order_relaxed) ||
                         rank.collectives != copy.collectives.load(std::memory_order_relaxed) ||
                         TextOf(rank.work) != copy.work.Get();
  copy.step.store(rank.step, std::memory_order_relaxed);
  copy.collectives.store(rank.collectives, std::memory_order_relaxed);
  copy.last_collective.Set(TextOf(rank.last_collective));
  copy.work.Set(TextOf(rank.work));
  copy.beats_waiting.store(rank.beats_waiting, std::memory_order_relaxed);
  copy.beats_working.store(rank.beats_working, std::memory_order_relaxed);
  copy.beats.store(rank.beats, std::memory_order_relaxed);
  if (has_moved) copy.Sign();
}

}  // namespace convoy
