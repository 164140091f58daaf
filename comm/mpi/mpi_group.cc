#include "comm/mpi/mpi_group.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;

// MPI counts in int.
constexpr int64_t kLargestMoveBytes = int64_t{1} << 28;

std::byte* BytesOf(const Tensor& tensor) { return static_cast<std::byte*>(tensor.data); }

class MpiGroup final : public RankGroup {
 public:
  explicit MpiGroup(MpiGroupParts parts) : parts_(std::move(parts)) {}

  int rank() const override { return parts_.channel.rank(); }
  int size() const override { return parts_.channel.size(); }

  void Run(const Collective& collective) override {
    if (!collective.traits().moves_data) return Finish(collective, {});
    const int64_t piece = PieceCount(collective);
    for (int64_t begin = 0; begin < collective.block_count; begin += piece) {
      const int64_t count = std::min(piece, collective.block_count - begin);
      if (collective.kind == CollectiveKind::kReduceScatter &&
          (count < collective.block_count || ReceivesInPlace(collective))) {
        ReduceScatterPiece(collective, begin, count);
      } else {
        Finish(collective, CallOf(collective, begin, count));
      }
    }
  }

  void GiveUp(const std::string& why) override {
    const std::lock_guard lock(mutex_);
    if (why_.empty()) why_ = why;
  }

 private:
  // Elements of a block that one call of MPI takes.
  int64_t PieceCount(const Collective& collective) const {
    int64_t bytes = kLargestMoveBytes;
    const CollectiveTraits traits = collective.traits();
    if (traits.reduces) {
      bytes = ReductionPieceBytes(size()) / (traits.blocks == RankBlocks::kNone ? 1 : size());
    }
    return std::max<int64_t>(1, bytes / SizeOf(collective.dtype));
  }

  // MPI does not write to what it reads from.
  bool ReceivesInPlace(const Collective& collective) const {
    return BytesOf(collective.receive) ==
           BytesOf(collective.send) + rank() * collective.block_bytes();
  }

  MpiCall CallOf(const Collective& collective, int64_t begin, int64_t count) const {
    const int64_t offset = begin * SizeOf(collective.dtype);
    const int64_t own_block = rank() * collective.block_bytes();
    std::byte* send = BytesOf(collective.send);
    std::byte* receive = BytesOf(collective.receive);
    // MPI must be told if the root's or every rank's block lies in its place already.
    const CollectiveTraits traits = collective.traits();
    const bool gathers = traits.blocks == RankBlocks::kInReceive;
    const bool scatters = traits.blocks == RankBlocks::kInSend && !traits.reduces;
    if (gathers && receive != nullptr && send == receive + own_block) {
      send = nullptr;
    } else if (scatters && send != nullptr && receive == send + own_block) {
      receive = nullptr;
    }
    if (send != nullptr) send += offset;
    if (receive != nullptr) receive += offset;
    return {.kind = collective.kind,
            .dtype = collective.dtype,
            .op = collective.op,
            .root = collective.root,
            .send = send,
            .receive = receive,
            .count = count,
            .stride_bytes = collective.block_bytes()};
  }

  // MPI wants the blocks one after another: copies the piece of every block together.
  void ReduceScatterPiece(const Collective& collective, int64_t begin, int64_t count) {
    const int64_t element_bytes = SizeOf(collective.dtype);
    const int64_t bytes = count * element_bytes;
    packed_.resize(static_cast<size_t>(bytes * size()));
    for (int64_t r = 0; r < size(); ++r) {
      std::memcpy(packed_.data() + r * bytes,
                  BytesOf(collective.send) + r * collective.block_bytes() + begin * element_bytes,
                  static_cast<size_t>(bytes));
    }
    MpiCall call = CallOf(collective, begin, count);
    call.send = packed_.data();
    Finish(collective, call);
  }

  // Open MPI moves nothing between calls, and its blocking calls spin: so this thread asks again
  // and again, and sleeps between.
  void Finish(const Collective& collective, const MpiCall& call) {
    constexpr int kEagerTests = 20;  // small collectives end within these
    constexpr auto kShortest = std::chrono::microseconds(50);
    constexpr auto kLongest = std::chrono::microseconds(1000);
    parts_.channel.Start(call);
    const Clock::time_point start = Clock::now();
    Clock::time_point next_look = start;
    for (int tests = 0; !parts_.channel.Test(); ++tests) {
      if (tests < kEagerTests) {
        std::this_thread::yield();
        continue;
      }
      const Clock::time_point now = Clock::now();
      if (now >= next_look) {
        GiveUpIfLost();
        next_look = now + std::chrono::milliseconds(250);
      }
      ThrowIfGivenUp(collective);
      const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(now - start);
      std::this_thread::sleep_for(std::clamp(waited / 64, kShortest, kLongest));
    }
  }

  bool AnyoneIsLost() const {
    return std::any_of(parts_.peers.begin(), parts_.peers.end(),
                       [](const Peer& peer) { return IsLost(peer); });
  }

  // A process that is gone has left a collective unfinished, or the last one finished: then this
  // rank finishes too, soon.
  void GiveUpIfLost() {
    if (!AnyoneIsLost()) return;
    if (looks_with_a_loss_++ >= 8) GiveUp("a rank is lost");
  }

  void ThrowIfGivenUp(const Collective& collective) {
    std::string why;
    {
      const std::lock_guard lock(mutex_);
      why = why_;
    }
    if (why.empty()) return;
    parts_.library->Shut();
    throw Error(ExitCode::kPeer,
                fmt::format("{} in group {} at step {}: {}; {}", collective.what, parts_.name,
                            collective.step, why, Behind()),
                AnyoneIsLost() ? kLostHint : kLateHint);
  }

  // MPI does not say for whom it waits: the ranks that have called less, and those that cannot go
  // on, are suspects.
  std::string Behind() const {
    const RankProgress* own = parts_.peers[static_cast<size_t>(rank())].progress;
    std::vector<Peer> behind;
    bool all_seen = true;
    for (const Peer& peer : parts_.peers) {
      if (own == nullptr || !IsSeen(peer)) {
        all_seen = false;
      } else if (peer.progress->collectives.load(std::memory_order_relaxed) <
                     own->collectives.load(std::memory_order_relaxed) ||
                 IsLost(peer) || IsStopped(peer)) {
        behind.push_back(peer);
      }
    }
    std::string text =
        behind.empty() ? "no rank that is seen is behind" : "behind: " + Describe(behind);
    if (!all_seen) text += "; some ranks of other hosts cannot be seen from here";
    return text;
  }

  MpiGroupParts parts_;
  std::vector<std::byte> packed_;
  int looks_with_a_loss_ = 0;
  std::mutex mutex_;
  std::string why_;  // guarded by mutex_
};

}  // namespace

std::unique_ptr<RankGroup> MakeMpiGroup(MpiGroupParts parts) {
  return std::make_unique<MpiGroup>(std::move(parts));
}

}  // namespace convoy
