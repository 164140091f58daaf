// comm/mpi/mpi_channel.h - a small interface to MPI: the library of this process, and channels
// (an MPI communicator each) with one non-blocking collective at a time.
//
// Errors of MPI become Errors (kPeer). If a rank gives up a collective, MPI still owns its
// buffers and may write to them in any later call; so the library is shut for good, every further
// call throws, and only Abort is left.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/collective.h"

namespace convoy {

class MpiChannel;

class MpiLibrary {
 public:
  // Initialises MPI for calls from several threads. Throws (kUsage) if it cannot do that, or was
  // initialised before.
  MpiLibrary();
  // Finalises MPI unless it is shut.
  ~MpiLibrary();
  MpiLibrary(const MpiLibrary&) = delete;
  MpiLibrary& operator=(const MpiLibrary&) = delete;

  // Returns a channel of all ranks. Collective over them.
  MpiChannel World();
  // Returns "Open MPI 4.1.4"
  std::string name() const;
  // Returns "MPI 3.1"
  std::string standard() const;
  // Returns when no call is under way any more.
  void Shut();
  bool shut() const;
  [[noreturn]] void Abort(int code);

 private:
  friend class MpiChannel;
  struct State;
  std::shared_ptr<State> state_;
};

// What one call of MPI does. Counts fit into an int.
struct MpiCall {
  CollectiveKind kind = CollectiveKind::kBarrier;
  DType dtype = DType::kUInt8;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  void* send = nullptr;  // null: not on this rank, or in place
  void* receive = nullptr;
  int64_t count = 0;         // elements of one block
  int64_t stride_bytes = 0;  // from block to block, if there are several
};

// Move-only. Outlived by its library.
class MpiChannel {
 public:
  MpiChannel(MpiChannel&&) noexcept;
  MpiChannel& operator=(MpiChannel&&) = delete;
  ~MpiChannel();

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Blocking, spinning: for the start of a run. Collective over the channel.
  MpiChannel Split(int colour, int key) const;
  // Returns the ranks of this host.
  MpiChannel SplitByHost() const;
  // values[r] is what rank r gave. `bytes` of a value is the same on all ranks.
  void AllGather(const void* value, int64_t bytes, void* values) const;
  void Broadcast(void* value, int64_t bytes, int root) const;
  // Returns whether all ranks say yes.
  bool Agree(bool yes) const;

  // Starts a collective; Test() moves it on and says whether it is done.
  void Start(const MpiCall& call);
  bool Test();

 private:
  friend class MpiLibrary;
  struct Handle;
  MpiChannel(std::shared_ptr<MpiLibrary::State> library, std::unique_ptr<Handle> handle);

  std::shared_ptr<MpiLibrary::State> library_;
  std::unique_ptr<Handle> handle_;
  int rank_ = 0, size_ = 0;
};

}  // namespace convoy
