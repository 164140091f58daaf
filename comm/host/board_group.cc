#include "comm/host/board_group.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <utility>

#include "comm/host/futex.h"
#include "comm/host/reduce.h"

namespace convoy {
namespace {

// Two phases for each collective: the odd ones end when all have called, the even ones when all
// have finished. Numbers wrap after 2^31 phases.
constexpr uint32_t kPhaseMask = 0x7FFFFFFF;
constexpr uint32_t kWakeAll = 0x80000000;
constexpr uint64_t kBroken = uint64_t{1} << 63;

// What a rank says of its call. All ranks must say the same.
struct Call {
  CollectiveKind kind;
  DType dtype;
  ReduceOp op;
  int root;
  int64_t block_count;
  char what[80];
};

// Written by its rank before it arrives, read by the others after all have arrived.
struct alignas(64) BoardSlot {
  Call call;
  Exposure exposure;
  std::atomic<uint32_t> phase;   // that its rank has arrived at
  std::atomic<uint32_t> failed;  // in the transfer under way
  char reason[512];              // why its rank failed, or broke the board
};

struct alignas(64) Board {
  std::atomic<uint64_t> arrivals;   // over all ranks and phases; kBroken: nobody arrives any more
  std::atomic<uint32_t> completed;  // phases; its top bit wakes everybody when the board is broken
  std::atomic<uint32_t> broken_by;  // rank in the group, set before that bit
};

BoardSlot* SlotsOf(Board* board) { return reinterpret_cast<BoardSlot*>(board + 1); }

void CopyText(const std::string& text, char* to, size_t capacity) {
  const size_t length = std::min(text.size(), capacity - 1);
  std::memcpy(to, text.data(), length);
  to[length] = 0;
}

std::string Describe(const Call& call) {
  return fmt::format("{} ({} of {} {})", call.what, NameOf(call.dtype), call.block_count,
                     call.block_count == 1 ? "element" : "elements");
}

void Copy(void* to, const void* from, int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

class BoardGroup final : public RankGroup {
 public:
  explicit BoardGroup(BoardGroupParts parts)
      : parts_(std::move(parts)),
        board_(static_cast<Board*>(parts_.board.get())),
        slots_(SlotsOf(board_)),
        own_(slots_[parts_.rank]) {}

  // Peers that still call get an Error at once.
  ~BoardGroup() override {
    const bool by_an_error = std::uncaught_exceptions() > 0;
    Break(fmt::format("rank {} has left group {}{}", Self().world_rank, parts_.name,
                      by_an_error ? " by an error" : ""));
  }

  int rank() const override { return parts_.rank; }
  int size() const override { return static_cast<int>(parts_.peers.size()); }

  void Run(const Collective& collective) override {
    Publish(collective);
    Arrive(collective);
    try {
      CheckSameCall();
      if (collective.block_count > 0) Move(collective);
    } catch (const std::exception& error) {
      FailTransfer(collective, error.what());
      throw;
    }
    Arrive(collective);
    ThrowIfAPeerFailed(collective);
  }

  void GiveUp(const std::string& why) override {
    {
      const std::lock_guard lock(mutex_);
      if (why_.empty()) why_ = why;
    }
    if (parts_.fallback) parts_.fallback->GiveUp(why);
    FutexWakeAll(board_->completed);
  }

 private:
  const Peer& Self() const { return parts_.peers[static_cast<size_t>(parts_.rank)]; }

  // Returns the tensor that peers reach into; empty if they need none of this rank's.
  Tensor ExposedTensor(const Collective& collective) const {
    const CollectiveTraits traits = collective.traits();
    if (!traits.has_root) {
      return traits.blocks == RankBlocks::kNone ? collective.receive : collective.send;
    }
    if (collective.root != rank()) return {};
    return traits.blocks == RankBlocks::kInSend ? collective.send : collective.receive;
  }

  void Publish(const Collective& collective) {
    own_.call = {.kind = collective.kind,
                 .dtype = collective.dtype,
                 .op = collective.op,
                 .root = collective.root,
                 .block_count = collective.block_count};
    CopyText(collective.what, own_.call.what, sizeof(own_.call.what));
    const Tensor exposed = ExposedTensor(collective);
    own_.exposure = exposed ? parts_.memory->Expose(exposed.data, exposed.bytes()) : Exposure{};
  }

  // --- Meeting -----------------------------------------------------------------------------------

  // Says that this rank is at its next phase, and waits for the others.
  void Arrive(const Collective& collective) {
    ThrowIfGivenUp(collective, {});
    const uint32_t phase = own_.phase.load(std::memory_order_relaxed) + 1;
    own_.phase.store(phase, std::memory_order_release);
    const uint64_t arrived = board_->arrivals.fetch_add(1, std::memory_order_acq_rel) + 1;
    if ((arrived & kBroken) == 0 && arrived == Arrivals(phase)) {
      board_->completed.fetch_add(1, std::memory_order_acq_rel);
      FutexWakeAll(board_->completed);
    }
    while (!Reached(phase)) AwaitChange(collective, phase);
  }

  uint64_t Arrivals(uint32_t phase) const { return static_cast<uint64_t>(phase) * slots(); }
  size_t slots() const { return parts_.peers.size(); }

  bool Reached(uint32_t phase) const {
    return (board_->completed.load(std::memory_order_acquire) & kPhaseMask) >= phase;
  }

  void AwaitChange(const Collective& collective, uint32_t phase) {
    // How soon the loss of a process is seen.
    constexpr int64_t kSliceMs = 250;
    const uint32_t seen = board_->completed.load(std::memory_order_acquire);
    if ((seen & kPhaseMask) >= phase) return;
    ThrowIfGivenUp(collective, Missing(phase));
    if ((seen & kWakeAll) != 0) ThrowBroken();
    const bool changed = FutexWait(board_->completed, seen, kSliceMs);
    if (!changed && SomebodyIsLost(phase)) {
      const std::string reason = Message(collective, "a rank is lost", Missing(phase));
      if (Break(reason)) throw PeerFailure(reason, kLostHint);
    }
  }

  bool SomebodyIsLost(uint32_t phase) const {
    for (size_t r = 0; r < slots(); ++r) {
      // In this order: a rank that ended after it arrived is not missing.
      if (IsLost(parts_.peers[r]) && slots_[r].phase.load(std::memory_order_acquire) < phase) {
        return true;
      }
    }
    return false;
  }

  std::vector<Peer> Missing(uint32_t phase) const {
    std::vector<Peer> missing;
    for (size_t r = 0; r < slots(); ++r) {
      if (slots_[r].phase.load(std::memory_order_acquire) < phase) {
        missing.push_back(parts_.peers[r]);
      }
    }
    return missing;
  }

  std::string Message(const Collective& collective, const std::string& why,
                      const std::vector<Peer>& missing) const {
    return fmt::format("{} in group {} at step {}: {}{}", collective.what, parts_.name,
                       collective.step, why,
                       missing.empty() ? "" : "; missing: " + convoy::Describe(missing));
  }

  // --- Failing -----------------------------------------------------------------------------------

  // Ends the group for all ranks, unless it is ended already. False when the ranks are moving data
  // that must stay, or have just completed the phase: then this one goes on.
  bool Break(const std::string& reason) {
    uint64_t arrivals = board_->arrivals.load(std::memory_order_acquire);
    if ((arrivals & kBroken) != 0) return true;  // peers may be reading the reason
    if (own_.failed.load(std::memory_order_relaxed) == 0) {
      CopyText(reason, own_.reason, sizeof(own_.reason));
    }
    do {
      if ((arrivals & kBroken) != 0) return true;
      const bool transferring = arrivals / slots() % 2 == 1;
      if (transferring && parts_.leave == LeaveDuringTransfer::kNo) return false;
      const uint32_t phase = own_.phase.load(std::memory_order_relaxed);
      if (arrivals == Arrivals(phase) && !Reached(phase)) return false;
    } while (!board_->arrivals.compare_exchange_weak(arrivals, arrivals | kBroken,
                                                     std::memory_order_acq_rel));
    board_->broken_by.store(static_cast<uint32_t>(rank()), std::memory_order_release);
    board_->completed.fetch_or(kWakeAll, std::memory_order_acq_rel);
    FutexWakeAll(board_->completed);
    return true;
  }

  // This rank was told to give up.
  void ThrowIfGivenUp(const Collective& collective, const std::vector<Peer>& missing) {
    std::string why;
    {
      const std::lock_guard lock(mutex_);
      why = why_;
    }
    if (why.empty()) return;
    const std::string message = Message(collective, why, missing);
    if (Break(message)) throw Error(ExitCode::kPeer, message, kLateHint);
  }

  // Another rank has broken the board.
  [[noreturn]] void ThrowBroken() const {
    const uint32_t r = board_->broken_by.load(std::memory_order_acquire);
    throw PeerFailure(
        fmt::format("rank {} gave up: {}", parts_.peers[r].world_rank, slots_[r].reason),
        kLateHint);
  }

  // The peers still move data from and to this rank: stays for the second phase if it must.
  void FailTransfer(const Collective& collective, const std::string& reason) {
    CopyText(reason, own_.reason, sizeof(own_.reason));
    own_.failed.store(1, std::memory_order_release);
    GiveUp("an earlier collective failed");
    try {
      Arrive(collective);
    } catch (const Error&) {
      // What failed first is thrown.
    }
  }

  void ThrowIfAPeerFailed(const Collective& collective) const {
    for (size_t r = 0; r < slots(); ++r) {
      if (slots_[r].failed.load(std::memory_order_acquire) == 0) continue;
      throw PeerFailure(fmt::format("{} in group {} at step {}: rank {} failed: {}",
                                    collective.what, parts_.name, collective.step,
                                    parts_.peers[r].world_rank, slots_[r].reason));
    }
  }

  // Every rank sees the same calls, so all of them throw.
  void CheckSameCall() const {
    for (size_t r = 1; r < slots(); ++r) {
      const Call& first = slots_[0].call;
      const Call& call = slots_[r].call;
      const bool same = call.kind == first.kind && call.dtype == first.dtype &&
                        call.op == first.op && call.root == first.root &&
                        call.block_count == first.block_count &&
                        std::strcmp(call.what, first.what) == 0;
      CONVOY_CHECK(same, "in group {} rank {} calls {}, rank {} calls {}", parts_.name,
                   parts_.peers[0].world_rank, Describe(first), parts_.peers[r].world_rank,
                   Describe(call));
    }
  }

  // --- Moving data -------------------------------------------------------------------------------

  void Move(const Collective& collective) {
    if (EveryoneIsReachable(collective)) return Transfer(collective, Addresses(collective));
    CONVOY_CHECK(parts_.fallback, "{} lies in memory that peers cannot reach", collective.what);
    parts_.fallback->Run(collective);
  }

  bool Needed(const Collective& collective, size_t r) const {
    return !collective.traits().has_root || static_cast<int>(r) == collective.root;
  }

  bool EveryoneIsReachable(const Collective& collective) const {
    for (size_t r = 0; r < slots(); ++r) {
      if (Needed(collective, r) && slots_[r].exposure.segment == 0) return false;
    }
    return true;
  }

  std::vector<std::byte*> Addresses(const Collective& collective) {
    std::vector<std::byte*> addresses(slots(), nullptr);
    for (size_t r = 0; r < slots(); ++r) {
      if (Needed(collective, r)) {
        addresses[r] = parts_.memory->Reach(static_cast<int>(r), slots_[r].exposure);
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
        for (size_t i = 0; i < slots(); ++i) {
          const size_t r = (i + static_cast<size_t>(rank())) % slots();
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

  BoardGroupParts parts_;
  Board* const board_;
  BoardSlot* const slots_;
  BoardSlot& own_;
  std::mutex mutex_;
  std::string why_;  // this rank was told to give up; guarded by mutex_
};

}  // namespace

int64_t BoardBytes(int ranks) {
  return static_cast<int64_t>(sizeof(Board) + sizeof(BoardSlot) * static_cast<size_t>(ranks));
}

std::unique_ptr<RankGroup> MakeBoardGroup(BoardGroupParts parts) {
  return std::make_unique<BoardGroup>(std::move(parts));
}

}  // namespace convoy
