// comm/host/job_queue.h - one thread that runs jobs in the order in which they came.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace convoy {

// Thread-safe. The destructor runs what is queued, then joins.
class JobQueue {
 public:
  // A job that was pushed. Its owner keeps it to ask for its end.
  struct Job {
    std::function<void()> run;
    // Guarded by the queue.
    bool done = false;
    std::exception_ptr failure;
  };

  // `name` appears in tools such as top.
  explicit JobQueue(const std::string& name);
  ~JobQueue();

  // What `run` throws is kept for Rethrow().
  std::shared_ptr<Job> Push(std::function<void()> run);
  bool Done(const Job& job);
  // Blocks until the job is done, or for so many seconds; 0 is for ever. False: it is not done.
  bool Await(const Job& job, double seconds = 0);
  // Throws what the job threw. The job is done.
  static void Rethrow(const Job& job);

 private:
  void Work();

  std::mutex mutex_;
  std::condition_variable changed_;  // a job came, a job is done, or stopping
  std::deque<std::shared_ptr<Job>> jobs_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace convoy
