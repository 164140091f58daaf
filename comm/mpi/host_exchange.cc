#include "comm/mpi/host_exchange.h"

#include <algorithm>
#include <cstring>

#include "comm/host/reduce.h"

namespace convoy {
namespace {

// Messages of one window have tags of their own: windows need not end in order.
int TagOf(int64_t window, bool is_sum) {
  constexpr int64_t kWindows = 1024;
  return static_cast<int>(2 * (window % kWindows)) + (is_sum ? 0 : 1);
}

void Copy(void* to, const void* from, int64_t bytes) {
  if (to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace

HostExchange::HostExchange(const HostTable& table, const MpiChannel& channel, MpiLibrary& library,
                           Patience& patience)
    : table_(table),
      rank_(channel.rank()),
      host_(table.HostOf(rank_)),
      place_(table.PlaceOf(rank_)),
      library_(library),
      patience_(patience),
      messages_(channel),
      slots_(static_cast<size_t>(ExchangePlan::WindowsUnderWay(table))) {}

void HostExchange::Run(const Collective& collective, const ExchangePlan& plan,
                       std::span<const BlockView> memory, int64_t first, int64_t end) {
  collective_ = &collective;
  plan_ = &plan;
  memory_ = memory;
  entered_.clear();
  Reserve();
  try {
    patience_.Renew();
    int64_t begun = first, done = first;
    while (true) {
      while (done < begun && SlotOf(done).under_way == 0) ++done;
      if (done == end) return;
      if (begun < end && begun < done + slots()) {
        Begin(begun++);
        continue;
      }
      const std::vector<int64_t>& finished = messages_.Test();
      if (finished.empty()) {
        patience_.Pause(collective);
      } else {
        patience_.Renew();
      }
      // By value: what is handled enters new ones.
      for (const int64_t id : finished) Handle(Message(entered_[static_cast<size_t>(id)]));
    }
  } catch (...) {
    library_.Shut();  // the buffers of messages under way are the caller's again
    throw;
  }
}

// --- The course of a window ----------------------------------------------------------------------

void HostExchange::Begin(int64_t window) {
  Slot& slot = SlotOf(window);
  const int64_t bytes_of_slot = buffer_.bytes() / slots();
  slot.free = static_cast<std::byte*>(buffer_.data()) + window % slots() * bytes_of_slot;
  // Starting at the own one, so that not all ranks send to the same one first.
  const int own = std::max(0, plan_->ShareOf(rank_));
  for (int i = 0; i < plan_->shares(); ++i) {
    const int share = (own + i) % plan_->shares();
    const int owner = plan_->OwnerOf(share);
    const ShareRange range = plan_->RangeOf(window, share);
    if (range.count <= 0) continue;
    if (owner == rank_) {
      BeginOwn(window, share, range);
    } else if (table_.HostOf(owner) != host_ && table_.ServerOf(owner, host_) == rank_) {
      BeginServed(window, share, range);
    }
  }
}

void HostExchange::BeginOwn(int64_t window, int share, const ShareRange& range) {
  const int64_t bytes = BytesOf(range);
  if (!plan_->reduces()) {
    const auto* const own = static_cast<const std::byte*>(collective_->send.data) +
                            range.begin * SizeOf(collective_->dtype);
    SendResult(window, share, own, bytes);
    HandToHost(range, own);
    return;
  }
  Slot& slot = SlotOf(window);
  slot.awaited = table_.hosts() - 1;
  for (int i = 1; i < table_.hosts(); ++i) {
    const int host = (host_ + i) % table_.hosts();
    std::byte* const sum = Take(slot, bytes);
    slot.sums[static_cast<size_t>(host)] = sum;
    messages_.Receive(sum, bytes, table_.ServerOf(rank_, host), TagOf(window, true),
                      Enter({Part::kSumFromServer, window, share, host}));
  }
  slot.sums[static_cast<size_t>(host_)] = SumOfHost(slot, range, /*in_place=*/true);
}

void HostExchange::BeginServed(int64_t window, int share, const ShareRange& range) {
  if (!plan_->reduces()) return ReceiveResult(window, share);
  // If every host adds, results are written where this sum lies, perhaps before it is sent.
  const std::byte* const sum = SumOfHost(SlotOf(window), range, !plan_->every_host_adds());
  const int owner = plan_->OwnerOf(share);
  messages_.Send(sum, BytesOf(range), owner, TagOf(window, true),
                 Enter({Part::kSumToOwner, window, share, table_.HostOf(owner)}));
}

void HostExchange::Handle(const Message& message) {
  Slot& slot = SlotOf(message.window);
  switch (message.part) {
    case Part::kSumFromServer:
      if (--slot.awaited == 0) AddHosts(message.window, message.share);
      break;
    case Part::kSumToOwner:
      // Only now: the result comes to where the sum may have been sent from.
      if (plan_->gathers()) ReceiveResult(message.window, message.share);
      break;
    case Part::kResultFromOwner: {
      const ShareRange range = plan_->RangeOf(message.window, message.share);
      HandToHost(range, OwnAddress(range));
      break;
    }
    case Part::kResultToServer:
      break;
  }
  --slot.under_way;
}

// Adds the sums of all hosts, which have come.
void HostExchange::AddHosts(int64_t window, int share) {
  const ShareRange range = plan_->RangeOf(window, share);
  destinations_.clear();
  if (plan_->results_go_to_all()) {
    for (int place = 0; place < static_cast<int>(memory_.size()); ++place) {
      destinations_.push_back(Address(place, range));
    }
  } else {
    destinations_.push_back(static_cast<std::byte*>(collective_->receive.data) +
                            range.begin * SizeOf(collective_->dtype));
  }
  ReduceArrays(collective_->dtype, collective_->op, SlotOf(window).sums, destinations_,
               range.count);
  if (plan_->gathers()) SendResult(window, share, OwnAddress(range), BytesOf(range));
}

void HostExchange::SendResult(int64_t window, int share, const std::byte* result, int64_t bytes) {
  for (int i = 1; i < table_.hosts(); ++i) {
    const int host = (host_ + i) % table_.hosts();
    messages_.Send(result, bytes, table_.ServerOf(rank_, host), TagOf(window, false),
                   Enter({Part::kResultToServer, window, share, host}));
  }
}

void HostExchange::ReceiveResult(int64_t window, int share) {
  const ShareRange range = plan_->RangeOf(window, share);
  const int owner = plan_->OwnerOf(share);
  messages_.Receive(OwnAddress(range), BytesOf(range), owner, TagOf(window, false),
                    Enter({Part::kResultFromOwner, window, share, table_.HostOf(owner)}));
}

// --- Within the host -----------------------------------------------------------------------------

// Returns the sum over the ranks of this host. If there is one rank only and `in_place`, that is
// its own data.
const std::byte* HostExchange::SumOfHost(Slot& slot, const ShareRange& range, bool in_place) {
  if (memory_.size() == 1 && in_place) return OwnAddress(range);
  sources_.clear();
  for (int place = 0; place < static_cast<int>(memory_.size()); ++place) {
    sources_.push_back(Address(place, range));
  }
  std::byte* const sum = Take(slot, BytesOf(range));
  void* const destination = sum;
  ReduceArrays(collective_->dtype, collective_->op, sources_, {&destination, 1}, range.count);
  return sum;
}

void HostExchange::HandToHost(const ShareRange& range, const std::byte* from) {
  for (int place = 0; place < static_cast<int>(memory_.size()); ++place) {
    Copy(Address(place, range), from, BytesOf(range));
  }
}

// --- Memory --------------------------------------------------------------------------------------

// A window needs the sums of all hosts for the own share, and one for every share that is served.
void HostExchange::Reserve() {
  int64_t sums = 0;
  if (plan_->reduces()) {
    sums = table_.hosts();
    for (int share = 0; share < plan_->shares(); ++share) {
      const int owner = plan_->OwnerOf(share);
      sums += table_.HostOf(owner) != host_ && table_.ServerOf(owner, host_) == rank_ ? 1 : 0;
    }
  }
  const int64_t bytes_of_sum =
      RoundUp(plan_->share_count() * SizeOf(collective_->dtype), kAlignmentBytes);
  const int64_t bytes = slots() * sums * bytes_of_sum;
  if (buffer_.bytes() < bytes) {
    buffer_ = {};
    buffer_ = AllocateHost(bytes);
  }
  for (Slot& slot : slots_) slot.sums.resize(static_cast<size_t>(table_.hosts()));
}

std::byte* HostExchange::Take(Slot& slot, int64_t bytes) const {
  std::byte* const taken = slot.free;
  slot.free += RoundUp(bytes, kAlignmentBytes);
  return taken;
}

std::byte* HostExchange::Address(int place, const ShareRange& range) const {
  const BlockView& view = memory_[static_cast<size_t>(place)];
  return view.data + range.block * view.stride_bytes +
         (range.begin - view.origin) * SizeOf(collective_->dtype);
}

std::byte* HostExchange::OwnAddress(const ShareRange& range) const {
  return Address(place_, range);
}

int64_t HostExchange::BytesOf(const ShareRange& range) const {
  return range.count * SizeOf(collective_->dtype);
}

HostExchange::Slot& HostExchange::SlotOf(int64_t window) {
  return slots_[static_cast<size_t>(window % slots())];
}

// Returns the name of a message that begins.
int64_t HostExchange::Enter(const Message& message) {
  ++SlotOf(message.window).under_way;
  entered_.push_back(message);
  return static_cast<int64_t>(entered_.size()) - 1;
}

}  // namespace convoy
