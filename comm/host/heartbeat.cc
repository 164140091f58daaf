#include "comm/host/heartbeat.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <set>
#include <utility>

#include "core/host/clock.h"
#include "core/host/thread_pool.h"

namespace convoy {
namespace {

constexpr double kBeatSeconds = 0.5;
constexpr int64_t kReportAfter = 20, kReportEvery = 60;  // beats
// A rank that has not ended so many beats after it could know of a loss waits somewhere else.
constexpr int64_t kGrace = 16;
// Hosts begin to beat when all have exchanged their addresses: those not heard by then are behind a
// firewall.
constexpr int64_t kHeardWithin = 20;
constexpr size_t kMostNamed = 3;

double SecondsOf(int64_t beats) { return static_cast<double>(beats) * kBeatSeconds; }

std::string NameOf(const Peer& peer) {
  return fmt::format("rank {} ({})", peer.world_rank, peer.host);
}

std::string Join(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) {
    text += (i > 0 ? ", " : "") + names[i];
  }
  if (names.size() > kMostNamed) text += fmt::format(" and {} more", names.size() - kMostNamed);
  return text;
}

std::string DescribeBusy(const Peer& peer, int64_t beats) {
  std::string work = peer.progress->work.Get();
  const int64_t step = peer.progress->step.load(std::memory_order_relaxed);
  if (work.empty()) work = step > 0 ? fmt::format("step {}", step) : "before its first step";
  return fmt::format("{}: {}, for {:.0f} s", NameOf(peer), work, SecondsOf(beats));
}

}  // namespace

int SilenceCounter::Count(uint32_t beats) {
  silent_ = beats == 0 || beats != last_beats_ ? 0 : silent_ + 1;
  last_beats_ = beats;
  return silent_;
}

std::optional<std::string> DescribeWait(const std::vector<Peer>& peers) {
  int64_t longest_wait = 0;
  bool all_work = true;
  std::vector<std::string> working, busy;
  for (const Peer& peer : peers) {
    if (!IsSeen(peer)) continue;
    const int64_t waits = peer.progress->beats_waiting.load(std::memory_order_relaxed);
    const int64_t works = peer.progress->beats_working.load(std::memory_order_relaxed);
    longest_wait = std::max(longest_wait, waits);
    all_work = all_work && works > 0;
    if (works >= kReportAfter) working.push_back(DescribeBusy(peer, works));
  }
  if (!working.empty() && !all_work) return "waiting for " + Join(working);
  if (longest_wait < kReportAfter) return std::nullopt;
  for (const Peer& peer : peers) {
    if (IsSeen(peer) && peer.progress->beats_waiting.load(std::memory_order_relaxed) == 0) {
      busy.push_back(DescribeBusy(peer, longest_wait));
    }
  }
  if (busy.empty()) return std::nullopt;
  return "waiting for " + Join(busy);
}

Heartbeat::Heartbeat(std::vector<Peer> ranks, int own, std::unique_ptr<HeartbeatLink> link,
                     HeartbeatOptions options)
    : ranks_(std::move(ranks)),
      own_(own),
      link_(std::move(link)),
      options_(std::move(options)),
      silence_(ranks_.size()),
      stop_descriptor_(eventfd(0, EFD_CLOEXEC)) {
  CONVOY_CHECK(stop_descriptor_ >= 0, "no eventfd");
  thread_ = std::thread([this] {
    NameThisThread("heartbeat");
    Work();
  });
}

Heartbeat::~Heartbeat() {
  eventfd_write(stop_descriptor_, 1);
  thread_.join();
  close(stop_descriptor_);
}

void Heartbeat::Work() {
  do {
    Beat();
  } while (ReceiveUntilNextBeat());
}

void Heartbeat::Beat() {
  ++beats_;
  CountOwn();
  if (link_) Send();
  Judge();
  Report();
  EndIfLeftBehind();
}

void Heartbeat::CountOwn() {
  RankProgress& progress = *ranks_[static_cast<size_t>(own_)].progress;
  const auto count = [](bool is_so, std::atomic<uint32_t>& beats) {
    beats.store(is_so ? beats.load(std::memory_order_relaxed) + 1 : 0, std::memory_order_relaxed);
  };
  count(progress.waits.load(std::memory_order_relaxed) > 0, progress.beats_waiting);
  count(!progress.work.Get().empty(), progress.beats_working);
  progress.beats.fetch_add(1, std::memory_order_relaxed);
}

void Heartbeat::Send() {
  HeartbeatMessage message{.key = link_->key, .lost_rank = -1, .ranks = {}};
  if (const Peer* lost = FirstLost()) message.lost_rank = lost->world_rank;
  const auto send = [&] {
    const std::vector<std::byte> bytes = Encode(message);
    for (const DatagramAddress& host : link_->hosts) link_->socket->Send(host, bytes);
    message.ranks.clear();
  };
  for (const Peer& rank : ranks_) {
    if (rank.is_remote || rank.progress == nullptr) continue;
    message.ranks.push_back(SnapshotOf(rank.world_rank, *rank.progress));
    if (message.ranks.size() == HeartbeatMessage::kMostRanks) send();
  }
  if (!message.ranks.empty()) send();
}

bool Heartbeat::ReceiveUntilNextBeat() {
  const Clock::time_point start = Clock::now();
  while (true) {
    const double left_s = kBeatSeconds - SecondsSince(start);
    if (left_s <= 0) return true;
    std::array<pollfd, 2> sources{
        {{.fd = stop_descriptor_, .events = POLLIN, .revents = 0},
         {.fd = link_ ? link_->socket->descriptor() : -1, .events = POLLIN, .revents = 0}}};
    poll(sources.data(), sources.size(), static_cast<int>(1e3 * left_s) + 1);
    if (sources[0].revents != 0) return false;
    if (!link_) continue;
    for (std::vector<std::byte> bytes = link_->socket->Receive(); !bytes.empty();
         bytes = link_->socket->Receive()) {
      if (const auto message = DecodeHeartbeat(bytes, link_->key)) Take(*message);
    }
  }
}

void Heartbeat::Take(const HeartbeatMessage& message) {
  const auto remote = [&](int world_rank) -> RankProgress* {
    if (world_rank < 0 || world_rank >= std::ssize(ranks_)) return nullptr;
    const Peer& rank = ranks_[static_cast<size_t>(world_rank)];
    return rank.is_remote ? rank.progress : nullptr;
  };
  for (const HeartbeatMessage::Rank& rank : message.ranks) {
    if (RankProgress* copy = remote(rank.world_rank)) TakeSnapshot(rank, *copy);
  }
  // What other hosts say of a rank of this one is seen better from here.
  if (RankProgress* lost = remote(message.lost_rank)) lost->lost.store(1);
}

// Marks the ranks that have been silent for too long. Those of other hosts are judged by the rank
// that hears them.
void Heartbeat::Judge() {
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const Peer& rank = ranks_[r];
    if (static_cast<int>(r) == own_ || rank.progress == nullptr) continue;
    if (rank.is_remote && !link_) continue;
    const int silent = silence_[r].Count(rank.progress->beats.load(std::memory_order_relaxed));
    if (options_.silence_s > 0 && SecondsOf(silent) >= options_.silence_s &&
        rank.progress->ended.load() == 0) {
      rank.progress->lost.store(1);
    }
  }
}

void Heartbeat::Report() {
  if (!options_.report) return;
  std::set<std::string> unheard;
  for (const Peer& rank : ranks_) {
    if (!IsSeen(rank)) unheard.insert(rank.host);
  }
  if (!said_unheard_ && beats_ >= kHeardWithin && !unheard.empty() && link_) {
    said_unheard_ = true;
    options_.report(fmt::format(
        "no heartbeat arrives from {}: a firewall may stop datagrams (UDP) between the hosts; if "
        "one of these is lost, only --deadline finds it",
        Join({unheard.begin(), unheard.end()})));
  }
  const std::optional<std::string> wait = DescribeWait(ranks_);
  if (!wait) {
    reported_at_ = 0;
  } else if (reported_at_ == 0 || beats_ - reported_at_ >= kReportEvery) {
    reported_at_ = beats_;
    options_.report(*wait);
  }
}

const Peer* Heartbeat::FirstLost() const {
  for (const Peer& rank : ranks_) {
    if (rank.progress != nullptr && rank.progress->lost.load(std::memory_order_acquire) != 0)
      return &rank;
  }
  return nullptr;
}

void Heartbeat::EndIfLeftBehind() {
  const Peer* const lost = FirstLost();
  if (lost == nullptr) return;
  if (lost_since_ < 0) lost_since_ = beats_;
  if (beats_ - lost_since_ < kGrace) return;
  if (options_.on_loss) {
    options_.on_loss(Error(ExitCode::kPeer, "a rank is lost: " + Describe(*lost), kLostHint));
  }
  std::_Exit(static_cast<int>(ExitCode::kPeer));
}

}  // namespace convoy
