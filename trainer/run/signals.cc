#include "trainer/run/signals.h"

#include <signal.h>
#include <unistd.h>

#include <array>

#include "core/error.h"

namespace convoy {
namespace {

constexpr std::array kHandled = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};

// A signal handler has no other way to reach the program than variables of static lifetime.
volatile sig_atomic_t stop_asked = 0;
volatile sig_atomic_t checkpoint_asked = 0;
std::array<struct sigaction, kHandled.size()> previous;

void Handle(int signal) {
  if (signal == SIGHUP) {
    checkpoint_asked = 1;
  } else if (signal != SIGUSR1 && stop_asked != 0) {
    _exit(128 + signal);
  } else {
    stop_asked = 1;
  }
}

}  // namespace

SignalWatch::SignalWatch() {
  stop_asked = 0;
  checkpoint_asked = 0;
  struct sigaction action {};
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kHandled.size(); ++i) {
    CONVOY_CHECK(sigaction(kHandled[i], &action, &previous[i]) == 0);
  }
}

SignalWatch::~SignalWatch() {
  for (size_t i = 0; i < kHandled.size(); ++i) sigaction(kHandled[i], &previous[i], nullptr);
}

bool SignalWatch::StopAsked() const { return stop_asked != 0; }

bool SignalWatch::TakeCheckpointAsked() {
  const bool asked = checkpoint_asked != 0;
  if (asked) checkpoint_asked = 0;
  return asked;
}

}  // namespace convoy
