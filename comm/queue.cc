#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "comm/collective.h"
#include "core/thread_pool.h"

namespace convoy {
namespace {

struct Job {
  Collective collective;
  std::unique_ptr<Event> ready;  // null for host streams
  bool done = false;
  std::exception_ptr failure;
};

// One thread that runs a group's collectives in the order of the calls.
class JobQueue {
 public:
  JobQueue(std::unique_ptr<RankGroup> group, const std::string& name, double deadline_s)
      : group_(std::move(group)), deadline_s_(deadline_s), thread_([this, name] {
          NameThisThread("comm " + name);
          Work();
        }) {}

  // Requests have ended by now, or were given up.
  ~JobQueue() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  RankGroup& group() { return *group_; }

  void Push(std::shared_ptr<Job> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
  }

  bool Done(const Job& job) {
    const std::lock_guard lock(mutex_);
    return job.done;
  }

  // Until the job is done. Past the deadline the group is given up, which soon ends the job, and
  // every later one: so that is an error even where this job was completed just then.
  void Await(const Job& job) {
    std::unique_lock lock(mutex_);
    const auto done = [&job] { return job.done; };
    const std::string late = fmt::format("waited {:.1f} s", deadline_s_);
    const bool in_time = deadline_s_ <= 0 ||
                         changed_.wait_for(lock, std::chrono::duration<double>(deadline_s_), done);
    if (!in_time) {
      lock.unlock();
      group_->GiveUp(late);
      lock.lock();
    }
    changed_.wait(lock, done);
    if (job.failure) std::rethrow_exception(job.failure);
    if (!in_time) {
      throw Error(ExitCode::kPeer,
                  fmt::format("{} at step {}: {}", job.collective.what, job.collective.step, late));
    }
  }

  void Abandon(const Job& job) {
    group_->GiveUp("this rank ended by an error");
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&job] { return job.done; });
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      const std::shared_ptr<Job> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      std::exception_ptr failure;
      try {
        if (job->ready) job->ready->Synchronize();
        group_->Run(job->collective);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      job->failure = failure;
      job->done = true;
      changed_.notify_all();
    }
  }

  std::unique_ptr<RankGroup> group_;
  const double deadline_s_;
  std::mutex mutex_;
  std::condition_variable changed_;  // a job came, a job is done, or stopping
  std::deque<std::shared_ptr<Job>> jobs_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

class QueuedOperation final : public Request::Operation {
 public:
  QueuedOperation(JobQueue& queue, std::shared_ptr<Job> job)
      : queue_(queue), job_(std::move(job)), exceptions_(std::uncaught_exceptions()) {}

  // A rank that is failing does not wait for its peers: they may wait for it elsewhere.
  ~QueuedOperation() override {
    if (waited_) return;
    try {
      if (std::uncaught_exceptions() > exceptions_) {
        queue_.Abandon(*job_);
      } else {
        queue_.Await(*job_);
      }
    } catch (...) {
      // Nobody asked for the result. The next collective of this group fails as well.
    }
  }

  void Wait(Stream&) override {
    waited_ = true;
    queue_.Await(*job_);
  }
  bool Done() override { return queue_.Done(*job_); }

 private:
  JobQueue& queue_;
  const std::shared_ptr<Job> job_;
  const int exceptions_;
  bool waited_ = false;
};

class QueuedCommunicator final : public CollectiveCommunicator {
 public:
  QueuedCommunicator(std::unique_ptr<RankGroup> group, const std::string& name, double deadline_s,
                     std::function<void(Collective&)> entered)
      : entered_(std::move(entered)), queue_(std::move(group), name, deadline_s) {}

  int rank() const override { return queue_.group().rank(); }
  int size() const override { return queue_.group().size(); }

 private:
  Request Submit(Stream& stream, const Collective& collective) override {
    auto job = std::make_shared<Job>();
    job->collective = collective;
    entered_(job->collective);
    if (stream.device().kind != DeviceKind::kCpu) job->ready = stream.Record();
    queue_.Push(job);
    return Request(std::make_unique<QueuedOperation>(queue_, std::move(job)));
  }

  const std::function<void(Collective&)> entered_;
  mutable JobQueue queue_;
};

}  // namespace

std::unique_ptr<Communicator> MakeQueue(std::unique_ptr<RankGroup> group, const std::string& name,
                                        const WorldOptions& options,
                                        std::function<void(Collective&)> entered) {
  return std::make_unique<QueuedCommunicator>(std::move(group), name, options.deadline_s,
                                              std::move(entered));
}

}  // namespace convoy
