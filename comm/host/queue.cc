#include <exception>
#include <utility>

#include "comm/host/job_queue.h"
#include "comm/host/rank_group.h"

namespace convoy {
namespace {

// While it exists, a thread of this rank waits for others.
class WaitScope {
 public:
  explicit WaitScope(RankProgress& progress) : progress_(progress) {
    progress_.waits.fetch_add(1, std::memory_order_relaxed);
  }
  ~WaitScope() { progress_.waits.fetch_sub(1, std::memory_order_relaxed); }
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

 private:
  RankProgress& progress_;
};

// A group, and the thread that runs its collectives in the order of the calls.
class GroupQueue {
 public:
  GroupQueue(std::unique_ptr<RankGroup> group, const std::string& name, double deadline_s,
             RankProgress& progress)
      : group_(std::move(group)),
        deadline_s_(deadline_s),
        progress_(progress),
        queue_("comm " + name) {}

  RankGroup& group() { return *group_; }

  // `ready`: null for host streams.
  Job Push(const Collective& collective, std::shared_ptr<Event> ready) {
    return queue_.Push([this, collective, ready = std::move(ready)] {
      if (ready) ready->Synchronize();
      group_->Run(collective);
    });
  }

  // Waits until the job is done. Past the deadline the group is given up, which soon ends the job,
  // and every later one: so that is an error even if this job was completed just then.
  void Await(const Job& job, const Collective& collective) {
    const WaitScope waits(progress_);
    const bool in_time = IsDoneWithin(job, deadline_s_);
    const std::string late = fmt::format("waited {:.1f} s", deadline_s_);
    if (!in_time) group_->GiveUp(late);
    job.get();
    if (!in_time) {
      throw Error(ExitCode::kPeer,
                  fmt::format("{} at step {}: {}", collective.what, collective.step, late));
    }
  }

  void Abandon(const Job& job) {
    group_->GiveUp("this rank ended by an error");
    job.wait();
  }

 private:
  std::unique_ptr<RankGroup> group_;
  const double deadline_s_;
  RankProgress& progress_;
  JobQueue queue_;  // last: requests have ended by now, or were given up
};

class QueuedOperation final : public Request::Operation {
 public:
  QueuedOperation(GroupQueue& queue, Job job, const Collective& collective)
      : queue_(queue),
        job_(std::move(job)),
        collective_(collective),
        exceptions_(std::uncaught_exceptions()) {}

  // A rank that is failing does not wait for its peers: they may wait for it elsewhere.
  ~QueuedOperation() override {
    if (waited_) return;
    try {
      if (std::uncaught_exceptions() > exceptions_) {
        queue_.Abandon(job_);
      } else {
        queue_.Await(job_, collective_);
      }
    } catch (...) {
      // Nobody asked for the result. The next collective of this group fails as well.
    }
  }

  void Wait(Stream&) override {
    waited_ = true;
    queue_.Await(job_, collective_);
  }
  bool Done() override { return IsDone(job_); }

 private:
  GroupQueue& queue_;
  const Job job_;
  const Collective collective_;
  const int exceptions_;
  bool waited_ = false;
};

class QueuedCommunicator final : public Communicator {
 public:
  QueuedCommunicator(std::unique_ptr<RankGroup> group, const std::string& name, double deadline_s,
                     RankProgress& progress)
      : progress_(progress), queue_(std::move(group), name, deadline_s, progress) {}

  int rank() const override { return queue_.group().rank(); }
  int size() const override { return queue_.group().size(); }
  void GiveUp(const std::string& why) override { queue_.group().GiveUp(why); }

 private:
  Request Submit(Stream& stream, const Collective& collective) override {
    Collective own = collective;
    progress_.EnterCollective(own.what);
    own.step = progress_.step.load(std::memory_order_relaxed);
    std::shared_ptr<Event> ready;
    if (stream.device().kind != DeviceKind::kCpu) ready = stream.Record();
    return Request(
        std::make_unique<QueuedOperation>(queue_, queue_.Push(own, std::move(ready)), own));
  }

  RankProgress& progress_;
  mutable GroupQueue queue_;
};

}  // namespace

std::unique_ptr<Communicator> MakeQueue(std::unique_ptr<RankGroup> group, const std::string& name,
                                        const WorldOptions& options, RankProgress& progress) {
  return std::make_unique<QueuedCommunicator>(std::move(group), name, options.deadline_s, progress);
}

}  // namespace convoy
