// comm/mpi/host_exchange.h - carries out an ExchangePlan: sums and copies between the ranks of a
// host, messages between hosts, many pieces at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/collective.h"
#include "comm/mpi/exchange_plan.h"
#include "comm/mpi/mpi_channel.h"
#include "comm/mpi/patience.h"
#include "core/device/memory.h"

namespace convoy {

// Where a rank's blocks lie in this process: those that a reduce-scatter sends, or an all-gather
// receives, or the one block of an all-reduce.
struct BlockView {
  std::byte* data = nullptr;
  int64_t stride_bytes = 0;  // from block to block
  int64_t origin = 0;        // the element of every block that lies at its beginning
};

// One rank's part. Used by one thread. What it is made of must outlive it.
class HostExchange {
 public:
  HostExchange(const HostTable& table, const MpiChannel& channel, MpiLibrary& library,
               Patience& patience);

  // Carries out the windows from `first` to `end`, without it. `memory`: of the ranks of this host,
  // by their places. The ranks of a host must be there before it begins, and may use their memory
  // when it has ended on all of them. Throws (kPeer); MPI is shut then.
  void Run(const Collective& collective, const ExchangePlan& plan,
           std::span<const BlockView> memory, int64_t first, int64_t end);

 private:
  enum class Part { kSumToOwner, kSumFromServer, kResultToServer, kResultFromOwner };
  struct Message {
    Part part;
    int64_t window;
    int share;
    int host;  // the other one
  };
  // A window under way.
  struct Slot {
    int under_way = 0;              // messages
    int awaited = 0;                // sums of other hosts
    std::vector<const void*> sums;  // of this rank's own share, by host
    std::byte* free = nullptr;      // memory that this window has not used
  };

  void Begin(int64_t window);
  void Handle(const Message& message);
  void BeginOwn(int64_t window, int share, const ShareRange& range);
  void BeginServed(int64_t window, int share, const ShareRange& range);
  const std::byte* SumOfHost(Slot& slot, const ShareRange& range, bool in_place);
  void AddHosts(int64_t window, int share);
  void SendResult(int64_t window, int share, const std::byte* result, int64_t bytes);
  void ReceiveResult(int64_t window, int share);
  void HandToHost(const ShareRange& range, const std::byte* from);
  std::byte* Take(Slot& slot, int64_t bytes) const;
  std::byte* Address(int place, const ShareRange& range) const;
  std::byte* OwnAddress(const ShareRange& range) const;
  int64_t BytesOf(const ShareRange& range) const;
  int64_t slots() const { return static_cast<int64_t>(slots_.size()); }
  Slot& SlotOf(int64_t window);
  void Reserve();
  int64_t Enter(const Message& message);

  const HostTable& table_;
  const int rank_, host_, place_;
  MpiLibrary& library_;
  Patience& patience_;
  MpiMessages messages_;
  Buffer buffer_;
  std::vector<Slot> slots_;

  // Of the collective under way.
  const Collective* collective_ = nullptr;
  const ExchangePlan* plan_ = nullptr;
  std::span<const BlockView> memory_;
  std::vector<Message> entered_;
  std::vector<const void*> sources_;
  std::vector<void*> destinations_;
};

}  // namespace convoy
