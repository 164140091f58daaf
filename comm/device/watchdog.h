// comm/device/watchdog.h - ends a process whose device waits for ranks that do not come.
//
// A collective that was queued on a device and never starts leaves the host nothing to throw from:
// the host may itself wait for the device. So a thread looks at all of them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/step_watch.h"
#include "core/device/stream.h"
#include "core/error.h"
#include "core/host/clock.h"

namespace convoy {

// What the watchdog asks of a communicator, from its own thread.
class WatchedCommunicator {
 public:
  virtual ~WatchedCommunicator() = default;
  virtual const std::string& name() const = 0;
  // Throws what the communicator has found out by itself: kPeer, or kDevice.
  virtual void Check() = 0;
  // Frees the device of what it waits for. May block for ever.
  virtual void Abort() = 0;
};

// Calls Abort on threads of their own and waits for so long. What has not ended by then goes on, or
// hangs, without anybody.
void AbortAll(const std::vector<std::shared_ptr<WatchedCommunicator>>& communicators,
              double seconds);

// The collectives of one communicator that are queued and not known to be done, and the last ones
// that are. Time is given, never asked for.
class CollectiveHistory {
 public:
  explicit CollectiveHistory(std::string name) : name_(std::move(name)) {}

  // `done`: the point after the collective in its stream. Collectives are done in order.
  void Add(const char* what, int64_t step, std::shared_ptr<Event> done, Clock::time_point now);
  // Finds out what is done by now. Throws what the events throw (kDevice).
  void Update(Clock::time_point now);
  // Seconds for which the oldest collective has been waiting with no other one done before it; 0
  // if there is none.
  double SecondsWaiting(Clock::time_point now) const;
  // Returns "all-reduce of fc6 of step 12 in group replicas; done before: fc8 of step 12, conv1 of
  // step 11"
  std::string Describe() const;

 private:
  struct Entry {
    std::string what;
    int64_t step = 0;
    std::shared_ptr<Event> done;
    Clock::time_point queued;
  };

  const std::string name_;
  std::deque<Entry> outstanding_, completed_;
  Clock::time_point last_completed_{};
};

struct WatchdogOptions {
  // How long a collective, or a wait for a step, may take with nothing done; 0: for ever. What a
  // communicator or the device reports ends the process all the same.
  double deadline_s = 600;
  // How long the communicators are given to abort.
  double abort_s = 2;
  double poll_s = 0.1;
  int rank = 0;
  std::string host;
  // What is known of the other ranks; without their help, from any thread. May be empty.
  std::function<std::string()> describe_peers;
  // Tests replace these two. The line ends without a newline; the process ends with the code.
  std::function<void(const std::string& line)> print;
  std::function<void(ExitCode)> end;
};

// A thread that ends the process: with kPeer if a collective or a step is late or a communicator
// has failed, with kDevice if the device has. First it prints one line on standard error (rank,
// host, step, the late collective, those done last, the other ranks) and has all communicators
// aborted. One per process.
class Watchdog {
 public:
  explicit Watchdog(WatchdogOptions options);
  // Whoever was added has been removed, and no wait is under way.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // A communicator under watch while this exists. Must not outlive the watchdog.
  class Membership {
   public:
    Membership(Watchdog& watchdog, std::shared_ptr<WatchedCommunicator> communicator);
    ~Membership();
    Membership(const Membership&) = delete;
    Membership& operator=(const Membership&) = delete;
    // From any thread; as CollectiveHistory::Add.
    void Add(const char* what, int64_t step, std::shared_ptr<Event> done);

   private:
    Watchdog& watchdog_;
    std::shared_ptr<WatchedCommunicator> communicator_;
    CollectiveHistory history_;
    friend class Watchdog;
  };

  // Returns what is wrong at `now`, as an Error; null if nothing is. What the thread asks every
  // poll_s.
  std::optional<Error> Judge(Clock::time_point now);

 private:
  void Work();
  std::optional<Error> JudgeLocked(Clock::time_point now);
  void EndProcess(const Error& error);

  const WatchdogOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<Membership*> members_;
  std::vector<StepWatch*> waits_;
  friend class StepWatch;
  std::thread thread_;  // last: it uses the others
};

}  // namespace convoy
