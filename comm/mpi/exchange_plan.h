// comm/mpi/exchange_plan.h - how a collective between hosts is cut: which part of the data goes
// through which rank, and in which pieces.
//
// The data of an all-reduce, or every rank's block of an all-gather or a reduce-scatter, is cut
// into windows, which follow one another. A window consists of shares; each has an owner. To reduce
// a share, one rank of every other host, its server there (HostTable::ServerOf), adds what the
// ranks of its host have and sends the sum to the owner, which adds the sums of the hosts. To
// gather it, the owner sends it to its servers, which hand it on to the ranks of their host. An
// all-reduce does both. So every byte crosses the link of a host as seldom as it can, and all ranks
// of a host take part.
//
// The sums are added in one order: over the ranks of a host by their places, then over the hosts by
// their numbers. It does not depend on the element, so the same numbers give the same bits however
// the data is cut.
#pragma once

#include <cstdint>

#include "comm/collective.h"
#include "comm/mpi/host_table.h"

namespace convoy {

// Elements of a share.
struct ShareRange {
  int64_t block = 0;  // all-gather and reduce-scatter: of this rank; else 0
  int64_t begin = 0;  // first element in the block
  int64_t count = 0;
};

class ExchangePlan {
 public:
  // Returns whether collectives of this kind are exchanged so.
  static bool Covers(CollectiveKind kind);
  // Returns how many windows of a group are under way at a time, so that the link is never idle.
  static int WindowsUnderWay(const HostTable& table);
  // Returns the most bytes that a share has in a window.
  static int64_t MostShareBytes(const HostTable& table);
  // Return how many windows go at a time through scratch memory, which each rank needs for data
  // that the others of its host cannot reach, and the bytes of that memory.
  static int WindowsOfScratch(const HostTable& table);
  static int64_t ScratchBytes(const HostTable& table);

  // `table` must outlive the plan, and has two hosts at least. Covers(collective.kind).
  ExchangePlan(const HostTable& table, const Collective& collective);

  bool reduces() const { return reduces_; }
  bool gathers() const { return gathers_; }
  // Returns whether the results go to the memory of all ranks of a host; else to their owner only.
  bool results_go_to_all() const { return kind_ != CollectiveKind::kReduceScatter; }
  // Returns whether every host adds all sums by itself, which takes one message instead of two in a
  // row: each host owns one of the shares, which are all the same.
  bool every_host_adds() const { return every_host_adds_; }
  int64_t windows() const { return windows_; }
  // Returns how many elements of a block a window covers.
  int64_t window_count() const { return window_count_; }
  // Returns how many elements a share has at most.
  int64_t share_count() const { return share_count_; }

  int shares() const { return shares_; }
  int OwnerOf(int share) const;
  // Returns the share that a rank owns; -1 if it owns none.
  int ShareOf(int rank) const;
  ShareRange RangeOf(int64_t window, int share) const;

 private:
  const HostTable& table_;
  CollectiveKind kind_;
  int64_t count_;  // of a block
  bool reduces_, gathers_, every_host_adds_ = false;
  bool cuts_one_block_;  // all-reduce: the shares lie one after another in the only block
  int owners_of_a_host_ = 0;
  int shares_ = 0;
  int64_t windows_ = 0, window_count_ = 0, share_count_ = 0;
};

}  // namespace convoy
