#include "trainer/run/signals.h"

#include <unistd.h>

#include <array>
#include <atomic>

#include "core/error.h"
#include "core/host/signal_thread.h"

namespace convoy {
namespace {

// A signal handler has no other way to reach the program than variables of static lifetime. It may
// run in another thread than the one that reads them.
std::atomic<bool> stop_asked = false;
std::atomic<bool> checkpoint_asked = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a handler must not wait for a lock");
std::array<struct sigaction, kAskingSignals.size()> previous;

void Handle(int signal) {
  if (signal == SIGHUP) {
    checkpoint_asked = true;
  } else if (signal != SIGUSR1 && stop_asked) {
    _exit(128 + signal);
  } else {
    stop_asked = true;
  }
}

}  // namespace

SignalWatch::SignalWatch() {
  stop_asked = false;
  checkpoint_asked = false;
  struct sigaction action {};
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kAskingSignals.size(); ++i) {
    CONVOY_CHECK(sigaction(kAskingSignals[i], &action, &previous[i]) == 0);
  }
}

SignalWatch::~SignalWatch() {
  for (size_t i = 0; i < kAskingSignals.size(); ++i) {
    sigaction(kAskingSignals[i], &previous[i], nullptr);
  }
}

bool SignalWatch::StopAsked() const { return stop_asked; }

bool SignalWatch::TakeCheckpointAsked() { return checkpoint_asked.exchange(false); }

}  // namespace convoy
