// comm/world.h - all ranks of a run: it knows their hosts, makes groups of them and ends the run.
//
// Making the world and its groups (Split) waits without a deadline.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace convoy {

enum class SharedMemory { kAuto, kOff };

class World;

struct WorldOptions {
  // How long a wait may take before the peers are given up, in seconds; 0 waits for ever.
  double deadline_s = 600;
  // A rank that gives no sign of life for so long is lost, in seconds; 0: nobody is called lost for
  // that. Waits for it end by an Error (kPeer) that names it, before their deadline. Ranks give
  // such signs from a thread of their own, so one that works is alive.
  double silence_s = 20;
  // Takes lines about ranks that the others have been waiting for; called on rank 0, by a thread of
  // the world. Empty: nobody is told.
  std::function<void(const std::string& line)> report;
  // Called by a thread of the world if this rank is still there some seconds after another one was
  // lost, since no Error can reach it in its wait. The process ends with kPeer after that.
  std::function<void(const Error& error, const World& world)> on_loss;
  // kOff: everything goes through MPI, between ranks of one host too; to test and to measure.
  SharedMemory shared_memory = SharedMemory::kAuto;
  // If it is not 0, every so many ranks of a host move their data as if they were a host of their
  // own; to test what several hosts do.
  int ranks_per_host = 0;
};

class World {
 public:
  virtual ~World() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Returns the host names by rank.
  virtual const std::vector<std::string>& hosts() const = 0;
  // Return the place of this rank among the ranks of its own host, and their number.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  // Returns how many ranks of this host may run on exactly the processors that this rank may run
  // on, itself included: 1 if a launcher binds each to its own.
  virtual int processor_sharers() const = 0;
  // Returns one line: "MPI 3.1, Open MPI 4.1.4, 4 ranks on 1 host".
  virtual std::string Describe() const = 0;

  // Returns the group of all ranks, for host memory: the side channel of one thread at a time.
  virtual Communicator& all() = 0;
  // Collective over the world. Ranks that give one `colour` form a group, ordered by `key`, with a
  // progress of its own. `name` appears in messages. Host memory, pinned memory included: a device
  // stream's work is waited for first. colour >= 0.
  virtual std::unique_ptr<Communicator> Split(const std::string& name, int colour, int key) = 0;

  // Allocates zeroed host memory for what collectives move: ranks of one host reach each other's
  // directly. An all-reduce of 244 MB of fp32 took each of two MPI ranks 17 ms of CPU time in such
  // memory, 50 ms in other. Not a collective. Given back before the world ends.
  virtual Buffer AllocateShared(int64_t bytes) { return AllocateHost(bytes); }

  // Sets the step that messages name, and that the other ranks can see when this one is late.
  virtual void SetStep(int64_t step) = 0;
  virtual int64_t step() const = 0;
  // Sets what this rank does while the others may wait for it, for messages: "indexing
  // /data/train.tar"; empty: a step. See WorkScope.
  virtual void SetWork(const std::string& /*what*/) {}

  // Returns the host, rank and step of every rank, as far as it can be known without their help.
  virtual std::string DescribeProgress() = 0;

  // Ends every rank with this code. Does not return.
  [[noreturn]] virtual void Abort(ExitCode exit_code) = 0;
};

// While it exists, the other ranks can see what this one does. Not nested.
class WorkScope {
 public:
  WorkScope(World& world, const std::string& what) : world_(world) { world_.SetWork(what); }
  ~WorkScope() { world_.SetWork({}); }
  WorkScope(const WorkScope&) = delete;
  WorkScope& operator=(const WorkScope&) = delete;

 private:
  World& world_;
};

// Returns how many ranks a launcher says it started, by the environment; 1 if there was none. For
// commands that never make a world.
int LaunchedRanks();

// Returns the world that mpirun or srun started; one rank if there was no launcher. Initialises MPI
// with MPI_THREAD_MULTIPLE and finalises it when destroyed. One per process. Throws (kUsage) when
// the environment names a launcher of more ranks than MPI sees, as with another MPI's mpirun.
std::unique_ptr<World> MakeMpiWorld(const WorldOptions& options);

// Makes a world of one rank, without MPI.
std::unique_ptr<World> MakeSelfWorld();

// Runs `body` on `ranks` threads, each with a World of its own over shared memory. Rethrows the
// first exception that a body threw for a reason of its own, once all have ended.
void RunAsThreads(int ranks, const WorldOptions& options, const std::function<void(World&)>& body);

}  // namespace convoy
