#include "comm/mpi/patience.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "comm/host/rank_group.h"
#include "core/error.h"

namespace convoy {

Patience::Patience(std::string group, MpiLibrary& library, std::vector<Peer> peers, int rank)
    : group_(std::move(group)), library_(library), peers_(std::move(peers)), rank_(rank) {}

void Patience::GiveUp(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (why_.empty()) why_ = why;
}

void Patience::Renew() { pauses_ = looks_with_a_loss_ = 0; }

void Patience::Pause(const Collective& collective) {
  constexpr int kEagerPauses = 20;  // small collectives end within these
  constexpr auto kShortest = std::chrono::microseconds(50);
  constexpr auto kLongest = std::chrono::microseconds(1000);
  constexpr auto kBetweenLooks = std::chrono::milliseconds(250);
  if (pauses_++ == 0) {
    start_ = Clock::now();
    next_look_ = start_ + kBetweenLooks;
  }
  if (pauses_ <= kEagerPauses) {
    std::this_thread::yield();
    return;
  }
  const Clock::time_point now = Clock::now();
  if (now >= next_look_) {
    GiveUpIfLost();
    next_look_ = now + kBetweenLooks;
  }
  ThrowIfGivenUp(collective);
  const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(now - start_);
  std::this_thread::sleep_for(std::clamp(waited / 64, kShortest, kLongest));
}

bool Patience::AnyoneIsLost() const {
  return std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) { return IsLost(peer); });
}

// A process that is gone has left a collective unfinished, or the last one finished: then this rank
// finishes too, soon.
void Patience::GiveUpIfLost() {
  if (!AnyoneIsLost()) return;
  if (looks_with_a_loss_++ >= 8) GiveUp("a rank is lost");
}

void Patience::ThrowIfGivenUp(const Collective& collective) {
  std::string why;
  {
    const std::lock_guard lock(mutex_);
    why = why_;
  }
  if (why.empty()) return;
  library_.Shut();
  throw Error(ExitCode::kPeer,
              fmt::format("{} in group {} at step {}: {}; {}", collective.what, group_,
                          collective.step, why, Behind()),
              AnyoneIsLost() ? kLostHint : kLateHint);
}

// MPI does not say for whom it waits: the ranks that have called less, and those that cannot go on,
// are suspects.
std::string Patience::Behind() const {
  const RankProgress* own = peers_[static_cast<size_t>(rank_)].progress;
  std::vector<Peer> behind;
  bool all_seen = true;
  for (const Peer& peer : peers_) {
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

}  // namespace convoy
