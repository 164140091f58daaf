// comm/mpi/mpi_channel.h - a small interface to MPI: the library of this process, channels (an MPI
// communicator each) with one non-blocking collective at a time, and messages on a channel.
//
// Errors of MPI become Errors (kPeer). If a rank gives up a collective or a message, MPI still owns
// its buffers and may write to them in any later call; so the library is shut for good, every
// further call throws, and only Abort is left.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/collective.h"

namespace convoy {

class MpiChannel;
class MpiMessages;

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
  friend class MpiMessages;
  struct State;
  std::shared_ptr<State> state_;
};

// What one call of MPI does: a collective with a root, or a barrier. Counts fit into an int.
struct MpiCall {
  CollectiveKind kind = CollectiveKind::kBarrier;
  int root = 0;
  void* send = nullptr;  // null: not on this rank, or in place
  void* receive = nullptr;
  int64_t bytes = 0;         // of one block
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
  friend class MpiMessages;
  struct Handle;
  MpiChannel(std::shared_ptr<MpiLibrary::State> library, std::unique_ptr<Handle> handle);

  std::shared_ptr<MpiLibrary::State> library_;
  std::unique_ptr<Handle> handle_;
  int rank_ = 0, size_ = 0;
};

// Messages between the ranks of a channel, any number of them under way. Memory that is sent stays
// unchanged, and memory that is received into untouched, until Test() has named the message.
// Messages of one sender, receiver and tag arrive in the order in which they were sent. Used by one
// thread. Outlived by the channel.
class MpiMessages {
 public:
  explicit MpiMessages(const MpiChannel& channel);
  ~MpiMessages();
  MpiMessages(const MpiMessages&) = delete;
  MpiMessages& operator=(const MpiMessages&) = delete;

  // Start a message with a rank of the channel. `bytes` fits into an int; 0 <= tag < 32768; `id` is
  // the caller's name of it.
  void Send(const void* data, int64_t bytes, int to, int tag, int64_t id);
  void Receive(void* data, int64_t bytes, int from, int tag, int64_t id);
  // Moves all messages on. Returns those that are done, each of them once; valid until the next
  // call.
  const std::vector<int64_t>& Test();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace convoy
