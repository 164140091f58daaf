#include "comm/device/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "core/host/thread_pool.h"

namespace convoy {
namespace {

constexpr size_t kCompletedKept = 4;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string NameOf(const std::string& what, int64_t step) {
  return fmt::format("{} of step {}", what, step);
}

void PrintLine(const std::string& line) {
  // One call, so that lines of several ranks do not mix. Nothing can be done if it fails.
  const std::string text = "convoy: error: " + line + "\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

// Destructors would wait for the device, or for the peers.
void ExitAtOnce(ExitCode code) { std::_Exit(static_cast<int>(code)); }

WatchdogOptions WithDefaults(WatchdogOptions options) {
  if (!options.print) options.print = PrintLine;
  if (!options.end) options.end = ExitAtOnce;
  return options;
}

}  // namespace

void AbortAll(const std::vector<std::shared_ptr<WatchedCommunicator>>& communicators,
              double seconds) {
  struct Progress {
    std::mutex mutex;
    std::condition_variable changed;
    size_t left = 0;
  };
  const auto progress = std::make_shared<Progress>();
  progress->left = communicators.size();
  for (const std::shared_ptr<WatchedCommunicator>& communicator : communicators) {
    std::thread([communicator, progress] {
      communicator->Abort();
      const std::lock_guard lock(progress->mutex);
      --progress->left;
      progress->changed.notify_all();
    }).detach();
  }
  std::unique_lock lock(progress->mutex);
  progress->changed.wait_for(lock, std::chrono::duration<double>(seconds),
                             [&progress] { return progress->left == 0; });
}

// --- CollectiveHistory ---------------------------------------------------------------------------

void CollectiveHistory::Add(const char* what, int64_t step, std::shared_ptr<Event> done,
                            Clock::time_point now) {
  outstanding_.push_back({.what = what, .step = step, .done = std::move(done), .queued = now});
}

void CollectiveHistory::Update(Clock::time_point now) {
  while (!outstanding_.empty() && outstanding_.front().done->Reached()) {
    Entry& entry = outstanding_.front();
    entry.done.reset();
    completed_.push_back(std::move(entry));
    outstanding_.pop_front();
    if (completed_.size() > kCompletedKept) completed_.pop_front();
    last_completed_ = now;
  }
}

double CollectiveHistory::SecondsWaiting(Clock::time_point now) const {
  if (outstanding_.empty()) return 0;
  return Seconds(now - std::max(outstanding_.front().queued, last_completed_));
}

std::string CollectiveHistory::Describe() const {
  std::string done;
  for (auto entry = completed_.rbegin(); entry != completed_.rend(); ++entry) {
    done += (done.empty() ? "" : ", ") + NameOf(entry->what, entry->step);
  }
  return fmt::format("{} in group {}; done before: {}",
                     outstanding_.empty()
                         ? std::string("no collective")
                         : NameOf(outstanding_.front().what, outstanding_.front().step),
                     name_, done.empty() ? "nothing" : done);
}

// --- What is watched -----------------------------------------------------------------------------

Watchdog::Membership::Membership(Watchdog& watchdog,
                                 std::shared_ptr<WatchedCommunicator> communicator)
    : watchdog_(watchdog), communicator_(std::move(communicator)), history_(communicator_->name()) {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.members_.push_back(this);
}

Watchdog::Membership::~Membership() {
  const std::lock_guard lock(watchdog_.mutex_);
  std::erase(watchdog_.members_, this);
}

void Watchdog::Membership::Add(const char* what, int64_t step, std::shared_ptr<Event> done) {
  const std::lock_guard lock(watchdog_.mutex_);
  history_.Add(what, step, std::move(done), Clock::now());
}

StepWatch::StepWatch(Watchdog* watchdog, int64_t step)
    : watchdog_(watchdog), step_(step), since_(Clock::now()) {
  if (watchdog_ == nullptr) return;
  const std::lock_guard lock(watchdog_->mutex_);
  watchdog_->waits_.push_back(this);
}

StepWatch::~StepWatch() {
  if (watchdog_ == nullptr) return;
  const std::lock_guard lock(watchdog_->mutex_);
  std::erase(watchdog_->waits_, this);
}

// --- Watchdog ------------------------------------------------------------------------------------

Watchdog::Watchdog(WatchdogOptions options)
    : options_(WithDefaults(std::move(options))), thread_([this] {
        NameThisThread("watchdog");
        Work();
      }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::optional<Error> Watchdog::Judge(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  return JudgeLocked(now);
}

std::optional<Error> Watchdog::JudgeLocked(Clock::time_point now) {
  // Everything is looked at before anything is judged: if one rank is lost, several groups wait,
  // and the device's own word is better than a guess from the clock.
  for (Membership* member : members_) {
    try {
      member->communicator_->Check();
      member->history_.Update(now);
    } catch (const Error& error) {
      return Error(error.exit_code(),
                   fmt::format("{}; under way: {}", error.message(), member->history_.Describe()),
                   error.hint());
    }
  }
  const Membership* latest = nullptr;
  double waiting = 0;
  for (const Membership* member : members_) {
    const double seconds = member->history_.SecondsWaiting(now);
    if (seconds > waiting) {
      waiting = seconds;
      latest = member;
    }
  }
  if (options_.deadline_s <= 0) return {};
  if (waiting > options_.deadline_s) {
    return Error(ExitCode::kPeer,
                 fmt::format("waited {:.1f} s for {}", waiting, latest->history_.Describe()));
  }
  for (const StepWatch* wait : waits_) {
    const double seconds = Seconds(now - wait->since_);
    if (seconds <= options_.deadline_s) continue;
    std::string groups;
    for (const Membership* member : members_) groups += "; " + member->history_.Describe();
    // If no collective can be in the way, it is the device that hangs.
    return Error(members_.empty() ? ExitCode::kDevice : ExitCode::kPeer,
                 fmt::format("waited {:.1f} s for the device to end step {}{}", seconds,
                             wait->step_, groups));
  }
  return {};
}

void Watchdog::Work() {
  std::unique_lock lock(mutex_);
  const auto pause = std::chrono::duration<double>(options_.poll_s);
  while (!changed_.wait_for(lock, pause, [this] { return stopping_; })) {
    const std::optional<Error> error = JudgeLocked(Clock::now());
    if (!error) continue;
    // The lock is kept: nobody takes a communicator away while it is being aborted.
    EndProcess(*error);
    return;
  }
}

void Watchdog::EndProcess(const Error& error) {
  std::string line = fmt::format("rank {} ({}): {}", options_.rank, options_.host, error.message());
  if (options_.describe_peers) {
    try {
      line += "; ranks: " + options_.describe_peers();
    } catch (const std::exception&) {
      // They are not known, then.
    }
  }
  if (!error.hint().empty()) line += ": " + error.hint();
  options_.print(line);
  std::vector<std::shared_ptr<WatchedCommunicator>> communicators;
  for (const Membership* member : members_) communicators.push_back(member->communicator_);
  AbortAll(communicators, options_.abort_s);
  options_.end(error.exit_code());
}

}  // namespace convoy
