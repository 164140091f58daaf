#include "core/host/signal_thread.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace convoy {
namespace {

std::atomic<pid_t> handled_by = 0;

void Handle(int) { handled_by = gettid(); }

// Sends the signal to this process; the thread that has handled it.
pid_t ThreadThatHandles(int signal) {
  handled_by = 0;
  kill(getpid(), signal);
  while (handled_by == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return handled_by;
}

bool IsBlocked(int signal) {
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 1;
}

class SignalThreadTest : public ::testing::Test {
 protected:
  SignalThreadTest() {
    struct sigaction action {};
    action.sa_handler = Handle;
    action.sa_flags = SA_RESTART;
    for (size_t i = 0; i < previous_.size(); ++i) {
      sigaction(kAskingSignals[i], &action, &previous_[i]);
    }
  }
  ~SignalThreadTest() override {
    for (size_t i = 0; i < previous_.size(); ++i) {
      sigaction(kAskingSignals[i], &previous_[i], nullptr);
    }
  }

 private:
  std::array<struct sigaction, kAskingSignals.size()> previous_;
};

TEST_F(SignalThreadTest, TakesEverySignalInsteadOfItsMaker) {
  const SignalThread signals;
  for (const int signal : kAskingSignals) EXPECT_NE(ThreadThatHandles(signal), gettid()) << signal;
}

TEST_F(SignalThreadTest, TakesThemInsteadOfThreadsThatStartLater) {
  const SignalThread signals;
  for (const int signal : kAskingSignals) {
    bool blocked = false;
    std::thread([&] { blocked = IsBlocked(signal); }).join();
    EXPECT_TRUE(blocked) << signal;
  }
}

TEST_F(SignalThreadTest, LeavesThemToItsMakerWhenItEnds) {
  { const SignalThread signals; }
  for (const int signal : kAskingSignals) {
    EXPECT_FALSE(IsBlocked(signal)) << signal;
    EXPECT_EQ(ThreadThatHandles(signal), gettid()) << signal;
  }
}

}  // namespace
}  // namespace convoy
