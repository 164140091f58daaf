#include "comm/host/job_queue.h"

#include <chrono>
#include <utility>

#include "core/host/thread_pool.h"

namespace convoy {

JobQueue::JobQueue(const std::string& name)
    : thread_([this, name] {
        NameThisThread(name);
        Work();
      }) {}

JobQueue::~JobQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::shared_ptr<JobQueue::Job> JobQueue::Push(std::function<void()> run) {
  auto job = std::make_shared<Job>();
  job->run = std::move(run);
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(job);
  }
  changed_.notify_all();
  return job;
}

bool JobQueue::Done(const Job& job) {
  const std::lock_guard lock(mutex_);
  return job.done;
}

bool JobQueue::Await(const Job& job, double seconds) {
  std::unique_lock lock(mutex_);
  const auto done = [&job] { return job.done; };
  if (seconds > 0) return changed_.wait_for(lock, std::chrono::duration<double>(seconds), done);
  changed_.wait(lock, done);
  return true;
}

void JobQueue::Rethrow(const Job& job) {
  if (job.failure) std::rethrow_exception(job.failure);
}

void JobQueue::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const std::shared_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      job->run();
    } catch (...) {
      failure = std::current_exception();
    }
    job->run = nullptr;
    lock.lock();
    job->failure = failure;
    job->done = true;
    changed_.notify_all();
  }
}

}  // namespace convoy
