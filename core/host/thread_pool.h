// core/host/thread_pool.h - a fixed set of threads that run tasks in the order they were given.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace convoy {

// Thread-safe. A task that throws keeps its exception until Wait(), which rethrows the first.
// The destructor runs what is queued, then joins.
class ThreadPool {
 public:
  // `name` appears in tools such as top (15 characters). Throws (kDefect) when threads < 1.
  explicit ThreadPool(int threads, const std::string& name = "convoy");
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(threads_.size()); }
  void Submit(std::function<void()> task);
  // Blocks until every submitted task has ended.
  void Wait();

 private:
  void Run();
  void StopThreads();

  std::mutex mutex_;
  std::condition_variable task_ready_, all_done_;
  std::deque<std::function<void()>> tasks_;
  int running_ = 0;
  bool stopping_ = false;
  std::exception_ptr first_failure_;
  std::vector<std::thread> threads_;
};

// Returns how many processors this process may run on (its affinity mask), at least 1.
int AvailableProcessors();
// Returns those processors: "0-3,8".
std::string ProcessorList();
// Names the calling thread for tools such as top; at most 15 characters are kept.
void NameThisThread(const std::string& name);

}  // namespace convoy
