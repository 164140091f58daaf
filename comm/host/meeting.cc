#include "comm/host/meeting.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <utility>

#include "comm/host/futex.h"
#include "comm/host/rank_group.h"

namespace convoy {
namespace {

// Two phases for each collective: the odd ones end when all have called, the even ones when all
// have finished. Numbers wrap after 2^31 phases.
constexpr uint32_t kPhaseMask = 0x7FFFFFFF;
constexpr uint32_t kWakeAll = 0x80000000;
constexpr uint64_t kBroken = uint64_t{1} << 63;

void CopyText(const std::string& text, char* to, size_t capacity) {
  const size_t length = std::min(text.size(), capacity - 1);
  std::memcpy(to, text.data(), length);
  to[length] = 0;
}

}  // namespace

// What a rank says of its call. All ranks must say the same.
struct Meeting::Call {
  CollectiveKind kind;
  DType dtype;
  ReduceOp op;
  int root;
  int64_t block_count;
  char what[80];
};

// Written by its rank before it arrives, read by the others after all have arrived.
struct alignas(64) Meeting::Slot {
  Call call;
  Exposure exposure;
  std::atomic<uint32_t> phase;   // that its rank has arrived at
  std::atomic<uint32_t> failed;  // in the transfer under way
  char reason[512];              // why its rank failed, or broke the board
};

struct alignas(64) Meeting::Board {
  std::atomic<uint64_t> arrivals;   // over all ranks and phases; kBroken: nobody arrives any more
  std::atomic<uint32_t> completed;  // phases; its top bit wakes everybody when the board is broken
  std::atomic<uint32_t> broken_by;  // rank in the group, set before that bit
};

int64_t BoardBytes(int ranks) {
  return static_cast<int64_t>(sizeof(Meeting::Board) +
                              sizeof(Meeting::Slot) * static_cast<size_t>(ranks));
}

Meeting::Meeting(MeetingParts parts)
    : parts_(std::move(parts)),
      board_(static_cast<Board*>(parts_.board.get())),
      slots_(reinterpret_cast<Slot*>(board_ + 1)),
      own_(slots_[parts_.rank]) {}

Meeting::~Meeting() {
  const bool by_an_error = std::uncaught_exceptions() > 0;
  Break(fmt::format("rank {} has left group {}{}", Self().world_rank, parts_.name,
                    by_an_error ? " by an error" : ""));
}

void Meeting::Run(const Collective& collective, const Exposure& own,
                  const std::function<void()>& move) {
  // A peer that comes late to the collective that was given up still reads what this rank called.
  ThrowIfGivenUp(collective, Missing(own_.phase.load(std::memory_order_relaxed) + 1));
  Publish(collective, own);
  Arrive(collective);
  try {
    CheckSameCall();
    move();
  } catch (const std::exception& error) {
    FailTransfer(collective, error.what());
    throw;
  }
  Arrive(collective);
  ThrowIfAPeerFailed(collective);
}

const Exposure& Meeting::ExposureOf(int rank) const { return slots_[rank].exposure; }

void Meeting::GiveUp(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (why_.empty()) why_ = why;
  }
  FutexWakeAll(board_->completed);
}

void Meeting::Publish(const Collective& collective, const Exposure& own) {
  own_.call = {.kind = collective.kind,
               .dtype = collective.dtype,
               .op = collective.op,
               .root = collective.root,
               .block_count = collective.block_count};
  CopyText(collective.what, own_.call.what, sizeof(own_.call.what));
  own_.exposure = own;
}

std::string Meeting::Describe(const Call& call) {
  return fmt::format("{} ({} of {} {})", call.what, NameOf(call.dtype), call.block_count,
                     call.block_count == 1 ? "element" : "elements");
}

// --- Meeting -----------------------------------------------------------------------------------

// Says that this rank is at its next phase, and waits for the others.
void Meeting::Arrive(const Collective& collective) {
  const uint32_t phase = own_.phase.load(std::memory_order_relaxed) + 1;
  ThrowIfGivenUp(collective, Missing(phase));
  own_.phase.store(phase, std::memory_order_release);
  const uint64_t arrived = board_->arrivals.fetch_add(1, std::memory_order_acq_rel) + 1;
  if ((arrived & kBroken) == 0 && arrived == Arrivals(phase)) {
    board_->completed.fetch_add(1, std::memory_order_acq_rel);
    FutexWakeAll(board_->completed);
  }
  while (!Reached(phase)) AwaitChange(collective, phase);
}

bool Meeting::Reached(uint32_t phase) const {
  return (board_->completed.load(std::memory_order_acquire) & kPhaseMask) >= phase;
}

void Meeting::AwaitChange(const Collective& collective, uint32_t phase) {
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

bool Meeting::SomebodyIsLost(uint32_t phase) const {
  for (size_t r = 0; r < slots(); ++r) {
    // In this order: a rank that ended after it arrived is not missing.
    if (IsLost(parts_.peers[r]) && slots_[r].phase.load(std::memory_order_acquire) < phase) {
      return true;
    }
  }
  return false;
}

// The others that have not come to this phase.
std::vector<Peer> Meeting::Missing(uint32_t phase) const {
  std::vector<Peer> missing;
  for (size_t r = 0; r < slots(); ++r) {
    const bool is_self = static_cast<int>(r) == rank();
    if (!is_self && slots_[r].phase.load(std::memory_order_acquire) < phase) {
      missing.push_back(parts_.peers[r]);
    }
  }
  return missing;
}

std::string Meeting::Message(const Collective& collective, const std::string& why,
                             const std::vector<Peer>& missing) const {
  return fmt::format("{} in group {} at step {}: {}{}", collective.what, parts_.name,
                     collective.step, why,
                     missing.empty() ? "" : "; missing: " + convoy::Describe(missing));
}

// --- Failing -----------------------------------------------------------------------------------

// Ends the group for all ranks, unless it is ended already. False when the ranks are moving data
// that must stay, or have just completed the phase: then this one goes on.
bool Meeting::Break(const std::string& reason) {
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
void Meeting::ThrowIfGivenUp(const Collective& collective, const std::vector<Peer>& missing) {
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
void Meeting::ThrowBroken() const {
  const uint32_t r = board_->broken_by.load(std::memory_order_acquire);
  throw PeerFailure(
      fmt::format("rank {} gave up: {}", parts_.peers[r].world_rank, slots_[r].reason), kLateHint);
}

// The peers still move data from and to this rank: stays for the second phase if it must.
void Meeting::FailTransfer(const Collective& collective, const std::string& reason) {
  CopyText(reason, own_.reason, sizeof(own_.reason));
  own_.failed.store(1, std::memory_order_release);
  GiveUp("an earlier collective failed");
  try {
    Arrive(collective);
  } catch (const Error&) {
    // What failed first is thrown.
  }
}

void Meeting::ThrowIfAPeerFailed(const Collective& collective) const {
  for (size_t r = 0; r < slots(); ++r) {
    if (slots_[r].failed.load(std::memory_order_acquire) == 0) continue;
    throw PeerFailure(fmt::format("{} in group {} at step {}: rank {} failed: {}", collective.what,
                                  parts_.name, collective.step, parts_.peers[r].world_rank,
                                  slots_[r].reason));
  }
}

// Every rank sees the same calls, so all of them throw.
void Meeting::CheckSameCall() const {
  for (size_t r = 1; r < slots(); ++r) {
    const Call& first = slots_[0].call;
    const Call& call = slots_[r].call;
    const bool same = call.kind == first.kind && call.dtype == first.dtype && call.op == first.op &&
                      call.root == first.root && call.block_count == first.block_count &&
                      std::strcmp(call.what, first.what) == 0;
    CONVOY_CHECK(same, "in group {} rank {} calls {}, rank {} calls {}", parts_.name,
                 parts_.peers[0].world_rank, Describe(first), parts_.peers[r].world_rank,
                 Describe(call));
  }
}

}  // namespace convoy
