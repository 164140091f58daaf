// comm/comm.h - start here: who talks to whom.
//
//   World            all ranks of the run; knows hosts, ends the run
//   Communicator     collectives over a group of ranks, asynchronous, with a deadline
//   ProcessGrid      which rank is which replica and tower, and their groups; for memory of a CUDA
//                    device too (nccl.h, staged.h; device_groups.h chooses, watchdog.h watches)
//   GradientBuckets  ranges of the gradient arena, reduced as soon as they are written
//
// Every rank of a group calls the same collectives in the same order. A rank that waits longer than
// the deadline, or whose peer is gone, gets an Error (kPeer) that names the operation, the step,
// and the ranks that are late where that can be known. Making the world and its groups (Split)
// waits without a deadline.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/error.h"
#include "core/tensor/convert.h"
#include "core/tensor/tensor.h"

namespace convoy {

enum class ReduceOp { kSum, kMax, kMin };

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
  // Whether Wait() would return at once. True for an empty request.
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
  virtual Request AllReduce(Stream& stream, const Tensor& data, ReduceOp op, const char* what) = 0;
  // send [...] -> receive [size, ...], block r from rank r. `send` may be receive's own block.
  virtual Request AllGather(Stream& stream, const Tensor& send, const Tensor& receive,
                            const char* what) = 0;
  // send [size, ...] -> receive [...], the sum over ranks of their block number rank().
  virtual Request ReduceScatter(Stream& stream, const Tensor& send, const Tensor& receive,
                                const char* what) = 0;
  // send [...] of every rank -> receive [size, ...] on `root`; elsewhere receive is ignored.
  virtual Request Gather(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                         const char* what) = 0;
  // send [size, ...] on `root` -> receive [...] on every rank; elsewhere send is ignored.
  virtual Request Scatter(Stream& stream, const Tensor& send, const Tensor& receive, int root,
                          const char* what) = 0;
  virtual Request Broadcast(Stream& stream, const Tensor& data, int root, const char* what) = 0;
  // Blocks the host until every rank of the group is here.
  virtual void Barrier(const char* what) = 0;

  // From any thread: this rank will not go on. Collectives under way and later ones soon end by an
  // Error that says `why`. A group of one has nobody to leave.
  virtual void GiveUp(const std::string& why) = 0;

  // Whether a call does no more than queue work on a device and Request::Wait() never blocks the
  // host: only then can they be recorded (core/cuda/runtime.h).
  virtual bool queues_on_device() const { return false; }
  // Zeroed memory of the group's device from which it moves data with the least work; empty where
  // it has no such memory: allocate your own. Every rank makes the same calls in the same order
  // and uses the same offsets in collectives. May be given back after the communicator has ended.
  virtual Buffer AllocateRegistered(int64_t) { return {}; }
};

enum class SharedMemory { kAuto, kOff };

struct WorldOptions {
  // How long a wait may take before the peers are given up, in seconds; 0 waits for ever.
  double deadline_s = 600;
  // kOff: everything goes through MPI, between ranks of one host too; to test and to measure.
  SharedMemory shared_memory = SharedMemory::kAuto;
};

class World {
 public:
  virtual ~World() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Host names by rank.
  virtual const std::vector<std::string>& hosts() const = 0;
  // Place of this rank among the ranks of its own host, and their number.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  // Ranks of this host that may run on exactly the processors that this rank may run on, itself
  // included: 1 where a launcher binds each to its own.
  virtual int processor_sharers() const = 0;
  // One line: "MPI 3.1, Open MPI 4.1.4, 4 ranks on 1 host".
  virtual std::string Describe() const = 0;

  // All ranks, host memory: the side channel. One thread at a time.
  virtual Communicator& all() = 0;
  // Collective over the world. Ranks that give one `colour` form a group, ordered by `key`, with a
  // progress of its own. `name` appears in messages. Host memory, pinned memory included: a device
  // stream's work is waited for first. colour >= 0.
  virtual std::unique_ptr<Communicator> Split(const std::string& name, int colour, int key) = 0;

  // Zeroed host memory for what collectives move: ranks of one host reach each other's directly. An
  // all-reduce of 244 MB of fp32 took each of two MPI ranks 17 ms of CPU time in such memory, 50 ms
  // in other. Not a collective. Given back before the world ends.
  virtual Buffer AllocateShared(int64_t bytes) { return AllocateHost(bytes); }

  // The step that messages name, and that the other ranks can see when this one is late.
  virtual void SetStep(int64_t step) = 0;
  virtual int64_t step() const = 0;

  // The host, rank and step of every rank, as far as it can be known without their help.
  virtual std::string DescribeProgress() = 0;

  // Ends every rank with this code. Does not return.
  [[noreturn]] virtual void Abort(ExitCode exit_code) = 0;
};

// How many ranks a launcher says it started, by the environment; 1 where there was none. For
// commands that never make a world.
int LaunchedRanks();

// The world that mpirun or srun started; one rank where there was no launcher. Initialises MPI with
// MPI_THREAD_MULTIPLE and finalises it when destroyed. One per process. Throws (kUsage) when the
// environment names a launcher of more ranks than MPI sees, as with another MPI's mpirun.
std::unique_ptr<World> MakeMpiWorld(const WorldOptions& options);

// One rank alone, without MPI.
std::unique_ptr<World> MakeSelfWorld();

// Runs `body` on `ranks` threads, each with a World of its own over shared memory. Rethrows the
// first exception that a body threw for a reason of its own, once all have ended.
void RunAsThreads(int ranks, const WorldOptions& options, const std::function<void(World&)>& body);

// --- The process grid ----------------------------------------------------------------------------

// replicas x towers ranks. The ranks of one replica are neighbours: rank = replica * towers +
// tower.
struct GridShape {
  int replicas = 1;
  int towers = 1;
  int ranks() const { return replicas * towers; }
};

// What carries collectives of device memory.
enum class CommunicatorKind {
  kAuto,  // NCCL wherever it can
  kNccl,
  kMpi  // the world's own, by way of host memory
};

// What the groups of a grid work for.
struct GroupOptions {
  // kCpu: collectives of host memory. kCuda: of this device's memory, the same index or another on
  // every rank.
  Device device;
  // The rest matters for CUDA devices.
  CommunicatorKind communicator = CommunicatorKind::kAuto;
  std::string device_uuid;  // tells the devices of a host apart
  // How the device is reached by way of host memory: streams for copies, made by threads of the
  // groups, and page-locked memory.
  std::function<std::unique_ptr<Stream>()> make_stream;
  Allocator allocate_pinned = AllocateHost;
  // What the device may wait for other ranks, in seconds (comm/device/watchdog.h); 0 is for ever.
  double deadline_s = 600;
};

class Watchdog;

// The world outlives it.
class ProcessGrid {
 public:
  // Collective over the world. Throws (kUsage) when the world has not shape.ranks() ranks, or when
  // NCCL is asked for and cannot connect them.
  ProcessGrid(World& world, const GridShape& shape, const GroupOptions& options = {});
  ~ProcessGrid();

  const GridShape& shape() const { return shape_; }
  int replica() const { return replica_; }
  int tower() const { return tower_; }
  // This tower in every replica: sums gradients and statistics. Rank in it = replica(). Memory of
  // the device.
  Communicator& replicas() { return device_replicas_ ? *device_replicas_ : *host_replicas_; }
  // The towers of this replica: exchanges activations. Rank in it = tower(). Memory of the device.
  Communicator& towers() { return device_towers_ ? *device_towers_ : *host_towers_; }
  // The same ranks for host memory: crops, checkpoints, numbers. The same communicators as above
  // where the device is the CPU.
  Communicator& host_replicas() { return *host_replicas_; }
  Communicator& host_towers() { return *host_towers_; }

  // What carries the collectives of device memory, and why. One line, the same on every rank.
  const std::string& Describe() const { return description_; }
  // For Watchdog::StepWatch (comm/device/watchdog.h) around waits for the device; null for the CPU.
  Watchdog* watchdog() { return watchdog_.get(); }
  // Gives every group up. For a rank that fails, before it frees memory of the device: that waits
  // for collectives whose peers may never come.
  void GiveUp(const std::string& why);

 private:
  void MakeDeviceGroups(World& world, const GroupOptions& options);

  GridShape shape_;
  int replica_ = 0, tower_ = 0;
  std::string description_;
  // In this order: groups of the device use the others.
  std::unique_ptr<Communicator> host_replicas_, host_towers_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Communicator> device_replicas_, device_towers_;
};

// --- Gradient buckets ----------------------------------------------------------------------------

enum class Overlap {
  kOn,
  kOff
};  // kOff starts every reduction in Wait(): to measure what kOn hides

// A range of the gradient arena that is reduced as one.
struct Bucket {
  std::string name;  // "fc8+fc7"
  int64_t begin = 0, count = 0;
  Communicator* group = nullptr;  // whose sum it becomes
};

struct BucketOptions {
  Overlap overlap = Overlap::kOn;
  // kBFloat16 halves the bytes and rounds, before and after the sum; ignored for fp64 gradients.
  DType wire = DType::kFloat32;
  // Where bf16 travels from: World::AllocateShared where there is a world.
  Allocator allocate_wire = AllocateHost;
  // Queues to = from, fp32 or bf16 to the other.
  std::function<void(Stream&, const Tensor& from, const Tensor& to)> convert =
      [](Stream&, const Tensor& from, const Tensor& to) { ConvertOnHost(from, to); };
};

// Buckets do not overlap; together they need not cover the arena. Per step: Begin, GradientReady
// for every range that is written, then Wait for every bucket in order. What is not announced to
// Begin is not reduced.
class GradientBuckets {
 public:
  GradientBuckets(std::vector<Bucket> buckets, const Tensor& gradients,
                  const BucketOptions& options);
  ~GradientBuckets();

  const std::vector<Bucket>& buckets() const { return buckets_; }

  // `ranges`: what will be written in this step (begin, count). Buckets without any are skipped.
  struct Range {
    int64_t begin, count;
  };
  void Begin(const std::vector<Range>& ranges);
  // Starts the reduction of a bucket with its last range.
  void GradientReady(Stream& stream, int64_t begin, int64_t count);
  // Work queued on `stream` after this call sees bucket `index` reduced.
  void Wait(Stream& stream, int index);

 private:
  struct State;
  void Start(Stream& stream, size_t index);

  std::vector<Bucket> buckets_;
  Tensor gradients_;
  BucketOptions options_;
  std::vector<State> states_;
};

}  // namespace convoy
