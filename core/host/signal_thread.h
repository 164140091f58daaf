// core/host/signal_thread.h - one thread takes the signals of a process, so that no other does.
//
// For a handler the kernel writes the registers of the interrupted thread, up to 11 KB of them,
// below its stack pointer. In a thread that computes this may be anywhere: the matrix products of
// oneDNN (sgemm of AVX2 and AVX-512) let the stack pointer stand at the start of a workspace on the
// heap, and what lies before it, gradients or malloc's own lists, would be overwritten.
#pragma once

#include <signal.h>

#include <array>
#include <future>
#include <thread>

namespace convoy {

// What people and launchers ask with: to stop, or to write a checkpoint.
inline constexpr std::array kAskingSignals = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};

// While it lives, those signals reach its own thread. They are blocked in the thread that made it
// and in all that are started from there: so make it before a library starts any. Handlers, and
// what a signal does without one, stay as they are.
class SignalThread {
 public:
  SignalThread();
  // The calling thread, which must be the one that made it, takes signals again.
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  sigset_t before_;  // blocked in the thread that made it
  std::promise<void> end_;
  std::thread thread_;
};

}  // namespace convoy
