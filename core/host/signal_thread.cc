#include "core/host/signal_thread.h"

#include "core/error.h"
#include "core/host/thread_pool.h"

namespace convoy {

SignalThread::SignalThread() {
  sigset_t taken;
  sigemptyset(&taken);
  for (const int signal : kAskingSignals) sigaddset(&taken, signal);
  CONVOY_CHECK(pthread_sigmask(SIG_BLOCK, &taken, &before_) == 0);
  try {
    thread_ = std::thread([before = before_, end = end_.get_future()] {
      NameThisThread("signals");
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      end.wait();
    });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    throw;
  }
}

SignalThread::~SignalThread() {
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  end_.set_value();
  thread_.join();
}

}  // namespace convoy
