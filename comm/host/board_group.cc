#include "comm/host/board_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "comm/host/reduce.h"

namespace convoy {
namespace {

void Copy(void* to, const void* from, int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

class BoardGroup final : public RankGroup {
 public:
  explicit BoardGroup(BoardGroupParts parts)
      : memory_(std::move(parts.memory)),
        fallback_(std::move(parts.fallback)),
        meeting_(std::move(parts.meeting)) {}

  int rank() const override { return meeting_.rank(); }
  int size() const override { return meeting_.size(); }

  void Run(const Collective& collective) override {
    const Tensor exposed = ExposedTensor(collective);
    const Exposure own = exposed ? memory_->Expose(exposed.data, exposed.bytes()) : Exposure{};
    meeting_.Run(collective, own, [&] {
      if (collective.block_count > 0) Move(collective);
    });
  }

  void GiveUp(const std::string& why) override {
    if (fallback_) fallback_->GiveUp(why);
    meeting_.GiveUp(why);
  }

 private:
  size_t ranks() const { return static_cast<size_t>(size()); }

  // Returns the tensor that peers reach into; empty if they need none of this rank's.
  Tensor ExposedTensor(const Collective& collective) const {
    const CollectiveTraits traits = collective.traits();
    if (!traits.has_root) {
      return traits.blocks == RankBlocks::kNone ? collective.receive : collective.send;
    }
    if (collective.root != rank()) return {};
    return traits.blocks == RankBlocks::kInSend ? collective.send : collective.receive;
  }

  void Move(const Collective& collective) {
    if (EveryoneIsReachable(collective)) return Transfer(collective, Addresses(collective));
    CONVOY_CHECK(fallback_, "{} lies in memory that peers cannot reach", collective.what);
    fallback_->Run(collective);
  }

  bool Needed(const Collective& collective, size_t r) const {
    return !collective.traits().has_root || static_cast<int>(r) == collective.root;
  }

  bool EveryoneIsReachable(const Collective& collective) const {
    for (size_t r = 0; r < ranks(); ++r) {
      if (Needed(collective, r) && meeting_.ExposureOf(static_cast<int>(r)).segment == 0)
        return false;
    }
    return true;
  }

  std::vector<std::byte*> Addresses(const Collective& collective) {
    std::vector<std::byte*> addresses(ranks(), nullptr);
    for (size_t r = 0; r < ranks(); ++r) {
      if (Needed(collective, r)) {
        addresses[r] =
            memory_->Reach(static_cast<int>(r), meeting_.ExposureOf(static_cast<int>(r)));
      }
    }
    return addresses;
  }

  void Transfer(const Collective& collective, const std::vector<std::byte*>& addresses) {
    const int64_t bytes = collective.block_bytes();
    const auto root = static_cast<size_t>(collective.root);
    auto* receive = static_cast<std::byte*>(collective.receive.data);
    switch (collective.kind) {
      case CollectiveKind::kAllReduce:
        return ReducePart(collective, addresses);
      case CollectiveKind::kReduceScatter: {
        std::vector<const void*> sources(addresses.begin(), addresses.end());
        for (const void*& source : sources) {
          source = static_cast<const std::byte*>(source) + rank() * bytes;
        }
        void* const destination = receive;
        return ReduceArrays(collective.dtype, collective.op, sources, {&destination, 1},
                            collective.block_count);
      }
      case CollectiveKind::kAllGather:
        // Starting at itself, so that the ranks do not all read the same one.
        for (size_t i = 0; i < ranks(); ++i) {
          const size_t r = (i + static_cast<size_t>(rank())) % ranks();
          Copy(receive + static_cast<int64_t>(r) * bytes, addresses[r], bytes);
        }
        return;
      case CollectiveKind::kGather:
        return Copy(addresses[root] + rank() * bytes, collective.send.data, bytes);
      case CollectiveKind::kScatter:
        return Copy(receive, addresses[root] + rank() * bytes, bytes);
      case CollectiveKind::kBroadcast:
        return Copy(receive, addresses[root], bytes);
      case CollectiveKind::kBarrier:
        return;
    }
  }

  // Each rank sums its part of the elements over all ranks and writes it to all of them: every
  // byte is read once and written once.
  void ReducePart(const Collective& collective, const std::vector<std::byte*>& addresses) {
    // Parts begin on cache lines of an aligned arena.
    constexpr int64_t kElementsOfALine = 32;
    const int64_t count = collective.block_count;
    const auto part_begin = [&](int64_t r) {
      return std::min(count, RoundUp(count * r / size(), kElementsOfALine));
    };
    const int64_t begin = part_begin(rank());
    const int64_t part_count = part_begin(rank() + 1) - begin;
    std::vector<const void*> sources;
    std::vector<void*> destinations;
    for (std::byte* address : addresses) {
      sources.push_back(address + begin * SizeOf(collective.dtype));
      destinations.push_back(address + begin * SizeOf(collective.dtype));
    }
    ReduceArrays(collective.dtype, collective.op, sources, destinations, part_count);
  }

  const std::unique_ptr<PeerMemory> memory_;
  const std::unique_ptr<RankGroup> fallback_;
  Meeting meeting_;  // last: peers that still call must hear first that this rank leaves
};

}  // namespace

std::unique_ptr<RankGroup> MakeBoardGroup(BoardGroupParts parts) {
  return std::make_unique<BoardGroup>(std::move(parts));
}

}  // namespace convoy
