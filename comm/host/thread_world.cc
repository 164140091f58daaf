#include <algorithm>
#include <bit>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "comm/host/board_group.h"
#include "comm/host/progress.h"
#include "comm/host/rank_group.h"
#include "comm/world.h"
#include "core/host/thread_pool.h"

namespace convoy {
namespace {

// What the worlds of all ranks share.
class ThreadWorldState {
 public:
  explicit ThreadWorldState(int ranks)
      : progress_(static_cast<size_t>(ranks)), hosts_(static_cast<size_t>(ranks), HostName()) {}

  int size() const { return static_cast<int>(hosts_.size()); }
  const std::vector<std::string>& hosts() const { return hosts_; }
  RankProgress& progress(int rank) { return progress_[static_cast<size_t>(rank)]; }
  Peer PeerOf(int rank) {
    return {
        .world_rank = rank, .host = hosts_[static_cast<size_t>(rank)], .progress = &progress(rank)};
  }

  // Returns the board of the group that the world's split number `split` made of `colour`.
  std::shared_ptr<void> BoardOf(int64_t split, int64_t colour, int ranks) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Buffer>& board = boards_[{split, colour}];
    if (!board) board = std::make_shared<Buffer>(AllocateHost(BoardBytes(ranks)));
    return {board, board->data()};
  }

  // Called in a catch block.
  void KeepException() {
    const std::lock_guard lock(mutex_);
    try {
      throw;
    } catch (const PeerFailure&) {
      if (!first_consequence_) first_consequence_ = std::current_exception();
    } catch (...) {
      if (!first_cause_) first_cause_ = std::current_exception();
    }
  }
  void RethrowException() const {
    if (first_cause_) std::rethrow_exception(first_cause_);
    if (first_consequence_) std::rethrow_exception(first_consequence_);
  }

 private:
  std::vector<RankProgress> progress_;
  const std::vector<std::string> hosts_;
  std::mutex mutex_;
  std::map<std::pair<int64_t, int64_t>, std::shared_ptr<Buffer>> boards_;
  std::exception_ptr first_cause_, first_consequence_;
};

// Threads see each other's memory as it is.
class ThreadMemory final : public PeerMemory {
 public:
  Exposure Expose(const void* data, int64_t) override {
    return {.segment = 1, .offset = std::bit_cast<uint64_t>(data)};
  }
  std::byte* Reach(int, const Exposure& exposure) override {
    return std::bit_cast<std::byte*>(exposure.offset);
  }
};

class ThreadWorld final : public World {
 public:
  ThreadWorld(ThreadWorldState& state, int rank, const WorldOptions& options)
      : state_(state), rank_(rank), options_(options) {
    std::vector<int> everyone(static_cast<size_t>(size()));
    std::iota(everyone.begin(), everyone.end(), 0);
    all_ = MakeGroup("all", 0, everyone);
  }

  int rank() const override { return rank_; }
  int size() const override { return state_.size(); }
  const std::vector<std::string>& hosts() const override { return state_.hosts(); }
  int local_rank() const override { return rank_; }
  int local_size() const override { return size(); }
  int processor_sharers() const override { return size(); }
  std::string Describe() const override { return fmt::format("{} ranks as threads", size()); }
  Communicator& all() override { return *all_; }

  std::unique_ptr<Communicator> Split(const std::string& name, int colour, int key) override {
    CONVOY_CHECK(colour >= 0, "colour {} of group {}", colour, name);
    ++splits_;
    int64_t own[2] = {colour, key};
    std::vector<int64_t> every(2 * static_cast<size_t>(size()));
    HostStream stream;
    all_->AllGather(stream, {own, DType::kInt64, {2}}, {every.data(), DType::kInt64, {size(), 2}},
                    "split of the world")
        .Wait(stream);
    std::vector<int> members;
    for (int r = 0; r < size(); ++r) {
      if (every[2 * static_cast<size_t>(r)] == colour) members.push_back(r);
    }
    std::stable_sort(members.begin(), members.end(), [&every](int a, int b) {
      return every[2 * static_cast<size_t>(a) + 1] < every[2 * static_cast<size_t>(b) + 1];
    });
    return MakeGroup(name, colour, members);
  }

  void SetStep(int64_t step) override {
    step_ = step;
    state_.progress(rank_).SetStep(step);
  }
  int64_t step() const override { return step_; }
  void SetWork(const std::string& what) override { state_.progress(rank_).SetWork(what); }

  std::string DescribeProgress() override {
    std::vector<Peer> peers(static_cast<size_t>(size()));
    for (int r = 0; r < size(); ++r) peers[static_cast<size_t>(r)] = state_.PeerOf(r);
    return convoy::Describe(peers);
  }

  // Ends this rank by an exception; the others follow when they wait for it.
  void Abort(ExitCode exit_code) override {
    throw Error(exit_code, fmt::format("rank {} ended the run", rank_));
  }

 private:
  std::unique_ptr<Communicator> MakeGroup(const std::string& name, int colour,
                                          const std::vector<int>& members) {
    if (members.size() == 1) return MakeSelfCommunicator();
    const int ranks = static_cast<int>(members.size());
    MeetingParts meeting{.name = name,
                         .board = state_.BoardOf(splits_, colour, ranks),
                         .leave = LeaveDuringTransfer::kNo};
    for (int r = 0; r < ranks; ++r) {
      const int member = members[static_cast<size_t>(r)];
      if (member == rank_) meeting.rank = r;
      meeting.peers.push_back(state_.PeerOf(member));
    }
    BoardGroupParts parts{.meeting = std::move(meeting),
                          .memory = std::make_unique<ThreadMemory>(),
                          .fallback = nullptr};
    return MakeQueue(MakeBoardGroup(std::move(parts)), name, options_, state_.progress(rank_));
  }

  ThreadWorldState& state_;
  const int rank_;
  int64_t step_ = 0;
  const WorldOptions options_;
  int64_t splits_ = 0;  // every rank counts the same
  std::unique_ptr<Communicator> all_;
};

}  // namespace

void RunAsThreads(int ranks, const WorldOptions& options, const std::function<void(World&)>& body) {
  CONVOY_CHECK(ranks >= 1, "{} ranks", ranks);
  ThreadWorldState state(ranks);
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&state, &options, &body, rank] {
      NameThisThread(fmt::format("rank {}", rank));
      try {
        ThreadWorld world(state, rank, options);
        body(world);
      } catch (...) {
        state.KeepException();
      }
      state.progress(rank).ended.store(1, std::memory_order_release);
    });
  }
  for (std::thread& thread : threads) thread.join();
  state.RethrowException();
}

}  // namespace convoy
