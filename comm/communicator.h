// comm/communicator.h - collectives over a group of ranks, asynchronous, with a deadline.
//
// Every rank of a group calls the same collectives in the same order. A rank that waits longer than
// the deadline, or whose peer is gone, gets an Error (kPeer) that names the operation, the step,
// and the ranks that are late if that can be known.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "comm/collective.h"
#include "comm/traffic.h"
#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/error.h"
#include "core/tensor/tensor.h"

namespace convoy {

// A collective under way. Move-only; destroyed without Wait(), it waits; destroyed by an exception,
// it gives the group up.
class Request {
 public:
  // What an implementation provides.
  class Operation {
   public:
    virtual ~Operation() = default;
    virtual void Wait(Stream& stream) = 0;
    virtual bool Done() = 0;
  };

  Request() = default;
  explicit Request(std::unique_ptr<Operation> operation) : operation_(std::move(operation)) {}

  // Work queued on `stream` after this call sees the result. For host memory: blocks until it is
  // there. Throws (kPeer) past the deadline. A second call does nothing.
  void Wait(Stream& stream) {
    if (!operation_) return;
    const std::unique_ptr<Operation> operation = std::move(operation_);
    operation->Wait(stream);
  }
  // Returns whether Wait() would return at once. True for an empty request.
  bool Done() { return !operation_ || operation_->Done(); }

 private:
  std::unique_ptr<Operation> operation_;
};

// Collectives over one group of ranks. They start after the work queued on `stream` so far, and go
// on while the caller computes. Tensors stay untouched by the caller until Wait(). `what` names the
// operation in messages ("all-reduce of fc6"), the same on every rank; it must outlive the request,
// and the request must end before the communicator does. After a failure every further collective
// of the group fails.
//
// Reductions take fp32, fp64, bf16 (added in fp32; by NCCL, rounded by every rank that adds), int32
// and int64; the other collectives any type. A count of zero is allowed. The same inputs on the
// same group give the same bits every time.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // in this group
  virtual int size() const = 0;

  // data [any]: in place.
  Request AllReduce(Stream& stream, const Tensor& data, ReduceOp op, const char* what);
  // send [...] -> receive [size, ...], block r from rank r. `send` may be receive's own block.
  Request AllGather(Stream& stream, const Tensor& send, const Tensor& receive, const char* what);
  // The same if every rank's block lies in its place of `blocks` [size, ...] already.
  Request AllGatherInPlace(Stream& stream, const Tensor& blocks, const char* what);
  // Returns this rank's block of `blocks`, which are as many as ranks, flat.
  Tensor OwnBlockOf(const Tensor& blocks) const;
  // send [size, ...] -> receive [...], the sum over ranks of their block number rank(). `receive`
  // may be send's own block.
  Request ReduceScatter(Stream& stream, const Tensor& send, const Tensor& receive,
                        const char* what);
  // send [...] of every rank -> receive [size, ...] on `root`; elsewhere receive is ignored.
  Request Gather(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                 const char* what);
  // send [size, ...] on `root` -> receive [...] on every rank; elsewhere send is ignored.
  Request Scatter(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                  const char* what);
  Request Broadcast(Stream& stream, const Tensor& data, int root, const char* what);
  // Blocks the host until every rank of the group is here.
  void Barrier(const char* what);
  // Checks a collective given as data, counts it and starts it. The calls above and groups that
  // stand on other groups use it.
  Request Run(Stream& stream, const Collective& collective);

  // Returns what Run was given since the last reset. A step that is recorded counts once, however
  // often the recording is queued.
  const TrafficCounts& traffic() const { return traffic_; }
  void ResetTraffic() { traffic_.Reset(); }

  // May be called from any thread. Says that this rank will not go on. Collectives under way and
  // later ones soon end by an Error that says `why`. A group of one has nobody to leave.
  virtual void GiveUp(const std::string& why) = 0;

  // Returns whether a call does no more than queue work on a device and Request::Wait() never
  // blocks the host: only then can they be recorded (core/cuda/runtime.h).
  virtual bool queues_on_device() const { return false; }
  // Returns whether this is a group of one that exchanges nothing, so that nobody needs to call it.
  // A group of one may go through NCCL all the same, to try it if there is only one device.
  virtual bool is_trivial() const { return false; }
  // Allocates zeroed memory of the group's device from which it moves data with the least work;
  // empty if it has no such memory: allocate your own. Every rank makes the same calls in the same
  // order and uses the same offsets in collectives. May be given back after the communicator has
  // ended.
  virtual Buffer AllocateRegistered(int64_t) { return {}; }

 private:
  // Starts a collective that Run has checked and completed.
  virtual Request Submit(Stream& stream, const Collective& collective) = 0;

  TrafficCounts traffic_;
};

}  // namespace convoy
