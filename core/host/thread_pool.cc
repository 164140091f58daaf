#include "core/host/thread_pool.h"

#include <fmt/format.h>
#include <pthread.h>

#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/host/numa.h"

namespace convoy {

ThreadPool::ThreadPool(int threads, const std::string& name) {
  CONVOY_CHECK(threads >= 1, "{} threads", threads);
  threads_.reserve(static_cast<size_t>(threads));
  try {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this, name] {
        NameThisThread(name);
        Run();
      });
    }
  } catch (const std::system_error& error) {
    StopThreads();
    throw Error(ExitCode::kUsage,
                fmt::format("cannot start {} threads {}: {}", threads, name, error.what()),
                "ask for fewer (--workers, --threads), or raise the limit of processes");
  }
}

ThreadPool::~ThreadPool() { StopThreads(); }

void ThreadPool::StopThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  task_ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Submit(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  task_ready_.notify_one();
}

void ThreadPool::Wait() {
  std::unique_lock lock(mutex_);
  all_done_.wait(lock, [this] { return tasks_.empty() && running_ == 0; });
  if (first_failure_) std::rethrow_exception(std::exchange(first_failure_, nullptr));
}

void ThreadPool::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    task_ready_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    ++running_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      task();
    } catch (...) {
      failure = std::current_exception();
    }
    task = nullptr;
    lock.lock();
    --running_;
    if (failure && !first_failure_) first_failure_ = failure;
    if (tasks_.empty() && running_ == 0) all_done_.notify_all();
  }
}

int AvailableProcessors() {
  const std::vector<int> processors = AllowedProcessors();
  return processors.empty() ? 1 : static_cast<int>(processors.size());
}

std::string ProcessorList() {
  const std::vector<int> processors = AllowedProcessors();
  return processors.empty() ? "?" : FormatProcessorList(processors);
}

void NameThisThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

}  // namespace convoy
