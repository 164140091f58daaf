#include "comm/mpi/exchange_plan.h"

#include <algorithm>

#include "core/device/memory.h"

namespace convoy {
namespace {

// Shares begin on cache lines of an aligned arena, for types of two bytes or more.
constexpr int64_t kElementsOfALine = 32;
// Open MPI sends a message of up to 64 KiB, its header included, over TCP at once. For a larger one
// the receiver must agree first, which it does when it calls MPI. Measured between two hosts at 1
// Gbit/s: pieces of 60 KiB use all of the link, of 128 KiB 0.93 of it, of 512 KiB 0.78.
constexpr int64_t kNetworkShareBytes = 60 << 10;
// Within a machine the receiver copies a larger message from the sender's memory. While all cores
// compute, a rank waits long for its turn to do so: it should copy much then.
constexpr int64_t kMachineShareBytes = 1 << 20;
// Messages to the other hosts that a rank may have under way on a network: half as many use all of
// the link too.
constexpr int kMessagesUnderWay = 32;
constexpr int kFewestWindowsUnderWay = 4;
// Of all shares of a window, and of those that go through scratch memory at a time.
constexpr int64_t kMostWindowBytes = 8 << 20;

int64_t Quotient(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

bool ExchangePlan::Covers(CollectiveKind kind) {
  return kind == CollectiveKind::kAllReduce || kind == CollectiveKind::kAllGather ||
         kind == CollectiveKind::kReduceScatter;
}

int ExchangePlan::WindowsUnderWay(const HostTable& table) {
  if (table.link() == HostLink::kMachine) return kFewestWindowsUnderWay;
  return std::max(kFewestWindowsUnderWay, kMessagesUnderWay / std::max(1, table.hosts() - 1));
}

int64_t ExchangePlan::MostShareBytes(const HostTable& table) {
  constexpr int64_t kMultiple = kElementsOfALine * static_cast<int64_t>(sizeof(double));
  const int64_t most = table.link() == HostLink::kNetwork ? kNetworkShareBytes : kMachineShareBytes;
  const int64_t bytes = std::min(most, kMostWindowBytes / table.ranks());
  return std::max(kMultiple, bytes / kMultiple * kMultiple);
}

int ExchangePlan::WindowsOfScratch(const HostTable& table) {
  const int64_t windows = kMostWindowBytes / (table.ranks() * MostShareBytes(table));
  return static_cast<int>(std::clamp<int64_t>(windows, 1, WindowsUnderWay(table)));
}

int64_t ExchangePlan::ScratchBytes(const HostTable& table) {
  return WindowsOfScratch(table) * table.ranks() * MostShareBytes(table);
}

ExchangePlan::ExchangePlan(const HostTable& table, const Collective& collective)
    : table_(table),
      kind_(collective.kind),
      count_(collective.block_count),
      reduces_(collective.traits().reduces),
      gathers_(collective.kind != CollectiveKind::kReduceScatter),
      cuts_one_block_(collective.kind == CollectiveKind::kAllReduce) {
  const int64_t element_bytes = SizeOf(collective.dtype);
  if (cuts_one_block_ && count_ * element_bytes * (table.hosts() - 1) <= kNetworkShareBytes) {
    every_host_adds_ = true;
    gathers_ = false;
    owners_of_a_host_ = 1;
    shares_ = table.hosts();
    windows_ = count_ > 0 ? 1 : 0;
    window_count_ = share_count_ = count_;
    return;
  }
  owners_of_a_host_ = table.fewest();
  shares_ = cuts_one_block_ ? owners_of_a_host_ * table.hosts() : table.ranks();
  const int64_t shares_of_a_block = cuts_one_block_ ? shares_ : 1;
  const int64_t whole = Quotient(count_, shares_of_a_block);
  // As many windows as needed, all but the last one of the same size.
  const int64_t most = MostShareBytes(table) / element_bytes;
  const int64_t pieces = std::max(int64_t{1}, Quotient(whole, most));
  share_count_ = RoundUp(Quotient(whole, pieces), kElementsOfALine);
  window_count_ = share_count_ * shares_of_a_block;
  windows_ = count_ > 0 ? Quotient(count_, window_count_) : 0;
}

int ExchangePlan::OwnerOf(int share) const {
  if (!cuts_one_block_) return share;
  // Shares that follow one another belong to ranks of the same place on all hosts.
  const std::vector<int>& ranks = table_.RanksOf(share % table_.hosts());
  return ranks[static_cast<size_t>(share / table_.hosts())];
}

int ExchangePlan::ShareOf(int rank) const {
  if (!cuts_one_block_) return rank;
  if (table_.PlaceOf(rank) >= owners_of_a_host_) return -1;
  return table_.PlaceOf(rank) * table_.hosts() + table_.HostOf(rank);
}

ShareRange ExchangePlan::RangeOf(int64_t window, int share) const {
  int64_t begin = window * window_count_;
  const int64_t end = std::min(count_, begin + window_count_);
  if (cuts_one_block_ && !every_host_adds_) begin = std::min(end, begin + share * share_count_);
  return {.block = cuts_one_block_ ? 0 : share,
          .begin = begin,
          .count = std::min(share_count_, end - begin)};
}

}  // namespace convoy
