#include "comm/host/job_queue.h"

#include <chrono>
#include <exception>
#include <memory>
#include <utility>

namespace convoy {

bool IsDoneWithin(const Job& job, double seconds) {
  if (seconds <= 0) {
    job.wait();
    return true;
  }
  return job.wait_for(std::chrono::duration<double>(seconds)) == std::future_status::ready;
}

bool IsDone(const Job& job) {
  return job.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

Job JobQueue::Push(std::function<void()> run) {
  const auto done = std::make_shared<std::promise<void>>();
  Job job = done->get_future().share();
  thread_.Submit([done, run = std::move(run)]() mutable {
    std::exception_ptr failure;
    try {
      run();
    } catch (...) {
      failure = std::current_exception();
    }
    run = nullptr;
    failure ? done->set_exception(failure) : done->set_value();
  });
  return job;
}

}  // namespace convoy
