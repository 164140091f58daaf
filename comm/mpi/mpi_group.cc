#include "comm/mpi/mpi_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "comm/mpi/exchange_plan.h"
#include "comm/mpi/host_exchange.h"
#include "comm/mpi/patience.h"

namespace convoy {
namespace {

// MPI counts in int.
constexpr int64_t kLargestMoveBytes = int64_t{1} << 28;

std::byte* BytesOf(const Tensor& tensor) { return static_cast<std::byte*>(tensor.data); }

// Returns the tensor that the ranks of a host reach into.
const Tensor& SharedTensor(const Collective& collective) {
  return collective.kind == CollectiveKind::kReduceScatter ? collective.send : collective.receive;
}

class MpiGroup final : public RankGroup {
 public:
  explicit MpiGroup(MpiGroupParts parts)
      : channel_(std::move(parts.channel)),
        table_(std::move(parts.hosts)),
        patience_(parts.name, *parts.library, std::move(parts.peers), channel_.rank()),
        exchange_(table_, channel_, *parts.library, patience_),
        views_(table_.RanksOf(table_.HostOf(channel_.rank())).size()) {
    if (!parts.host) return;
    peer_memory_ = std::move(parts.host->memory);
    scratch_ = std::move(parts.host->scratch);
    meeting_.emplace(std::move(parts.host->meeting));
  }

  int rank() const override { return channel_.rank(); }
  int size() const override { return channel_.size(); }

  void Run(const Collective& collective) override {
    if (!collective.traits().moves_data) return Finish(collective, {});
    if (ExchangePlan::Covers(collective.kind)) return Exchange(collective);
    const int64_t bytes = collective.block_bytes();
    for (int64_t begin = 0; begin < bytes; begin += kLargestMoveBytes) {
      Finish(collective, CallOf(collective, begin, std::min(kLargestMoveBytes, bytes - begin)));
    }
  }

  void GiveUp(const std::string& why) override {
    patience_.GiveUp(why);
    if (meeting_) meeting_->GiveUp(why);
  }

 private:
  // --- All-reduce, all-gather and reduce-scatter -------------------------------------------------

  void Exchange(const Collective& collective) {
    const ExchangePlan plan(table_, collective);
    if (plan.windows() == 0) return;
    if (meeting_) return ExchangeTogether(collective, plan);
    views_[0] = ViewOf(collective);
    exchange_.Run(collective, plan, views_, 0, plan.windows());
  }

  // If every rank of this host can reach the others' data, all windows at once; else a few at a
  // time through scratch memory.
  void ExchangeTogether(const Collective& collective, const ExchangePlan& plan) {
    const Tensor& shared = SharedTensor(collective);
    const Exposure own = peer_memory_->Expose(shared.data, shared.bytes());
    const bool uses_scratch = own.segment == 0;
    int64_t end = 0;
    for (int64_t first = 0; first < plan.windows(); first = end) {
      end = std::min(first + ExchangePlan::WindowsOfScratch(table_), plan.windows());
      if (uses_scratch && plan.reduces()) CopyThroughScratch(collective, plan, first, Way::kIn);
      meeting_->Run(collective, own, [&] {
        if (LookAtMemory(collective, plan, first)) end = plan.windows();
        exchange_.Run(collective, plan, views_, first, end);
      });
      if (uses_scratch && plan.results_go_to_all()) {
        CopyThroughScratch(collective, plan, first, Way::kOut);
      }
    }
  }

  // Finds where the data of this host's ranks lies. Returns whether all of it lies in their own
  // memory.
  bool LookAtMemory(const Collective& collective, const ExchangePlan& plan, int64_t first) {
    bool all_reachable = true;
    for (int place = 0; place < meeting_->size(); ++place) {
      BlockView& view = views_[static_cast<size_t>(place)];
      const Exposure& exposure = meeting_->ExposureOf(place);
      if (exposure.segment == 0) {
        view = ScratchView(collective, plan, place, first);
        all_reachable = false;
      } else {
        view = {.data = peer_memory_->Reach(place, exposure),
                .stride_bytes = collective.block_bytes()};
      }
    }
    return all_reachable;
  }

  static BlockView ViewOf(const Collective& collective) {
    return {.data = BytesOf(SharedTensor(collective)), .stride_bytes = collective.block_bytes()};
  }

  BlockView ScratchView(const Collective& collective, const ExchangePlan& plan, int place,
                        int64_t first) const {
    return {.data = scratch_.get() + place * ExchangePlan::ScratchBytes(table_),
            .stride_bytes = ExchangePlan::WindowsOfScratch(table_) * plan.window_count() *
                            SizeOf(collective.dtype),
            .origin = first * plan.window_count()};
  }

  enum class Way { kIn, kOut };

  // Copies what the windows from `first` on cover between this rank's tensor and its scratch
  // memory.
  void CopyThroughScratch(const Collective& collective, const ExchangePlan& plan, int64_t first,
                          Way way) const {
    const BlockView there = ScratchView(collective, plan, meeting_->rank(), first);
    const BlockView here = ViewOf(collective);
    const int64_t offset = there.origin * SizeOf(collective.dtype);
    const auto bytes =
        static_cast<size_t>(std::min(there.stride_bytes, collective.block_bytes() - offset));
    const int64_t blocks = SharedTensor(collective).bytes() / collective.block_bytes();
    for (int64_t block = 0; block < blocks; ++block) {
      std::byte* const own = here.data + block * here.stride_bytes + offset;
      std::byte* const scratch = there.data + block * there.stride_bytes;
      std::memcpy(way == Way::kIn ? scratch : own, way == Way::kIn ? own : scratch, bytes);
    }
  }

  // --- The other kinds ---------------------------------------------------------------------------

  // The call for `bytes` bytes of every block, from byte `offset` on.
  MpiCall CallOf(const Collective& collective, int64_t offset, int64_t bytes) const {
    const int64_t own_block = rank() * collective.block_bytes();
    std::byte* send = BytesOf(collective.send);
    std::byte* receive = BytesOf(collective.receive);
    // MPI must be told if the root's block lies in its place already.
    const CollectiveTraits traits = collective.traits();
    const bool gathers = traits.blocks == RankBlocks::kInReceive;
    const bool scatters = traits.blocks == RankBlocks::kInSend;
    if (gathers && receive != nullptr && send == receive + own_block) {
      send = nullptr;
    } else if (scatters && send != nullptr && receive == send + own_block) {
      receive = nullptr;
    }
    if (send != nullptr) send += offset;
    if (receive != nullptr) receive += offset;
    return {.kind = collective.kind,
            .root = collective.root,
            .send = send,
            .receive = receive,
            .bytes = bytes,
            .stride_bytes = collective.block_bytes()};
  }

  void Finish(const Collective& collective, const MpiCall& call) {
    channel_.Start(call);
    patience_.Renew();
    while (!channel_.Test()) patience_.Pause(collective);
  }

  MpiChannel channel_;
  const HostTable table_;
  Patience patience_;
  HostExchange exchange_;
  std::vector<BlockView> views_;  // of the ranks of this host, in the collective under way
  std::unique_ptr<PeerMemory> peer_memory_;
  std::shared_ptr<std::byte> scratch_;
  std::optional<Meeting> meeting_;  // last: peers that still call must hear first that this rank
                                    // leaves
};

}  // namespace

std::unique_ptr<RankGroup> MakeMpiGroup(MpiGroupParts parts) {
  return std::make_unique<MpiGroup>(std::move(parts));
}

}  // namespace convoy
