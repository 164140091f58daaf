// comm/host/job_queue.h - one thread that runs jobs in the order in which they came.
#pragma once

#include <functional>
#include <future>
#include <string>

#include "core/host/thread_pool.h"

namespace convoy {

// A job that was pushed. wait() and get() block until it is done; get() rethrows what it threw.
using Job = std::shared_future<void>;

// Returns whether the job is done within so many seconds; waits for ever if `seconds` is 0.
bool IsDoneWithin(const Job& job, double seconds);
// Returns whether the job is done.
bool IsDone(const Job& job);

// Thread-safe. The destructor runs what is queued, then joins.
class JobQueue {
 public:
  // `name` appears in tools such as top.
  explicit JobQueue(const std::string& name) : thread_(1, name) {}

  // Runs `run` after the jobs before it, and drops it before the job is done.
  Job Push(std::function<void()> run);

 private:
  ThreadPool thread_;
};

}  // namespace convoy
