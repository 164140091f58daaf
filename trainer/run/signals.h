// trainer/run/signals.h - what the outside world asks of a running rank.
//
// TERM, USR1 and INT: finish the step, agree, checkpoint, end with 75. HUP: checkpoint and go on. A
// second TERM or INT ends the process at once; the last good checkpoint is not touched.
#pragma once

namespace convoy {

// Installs the handlers while it lives and puts the old ones back. One at a time in a process,
// which has a SignalThread: no thread that computes may run a handler (core/host/signal_thread.h).
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  bool StopAsked() const;
  // True once per HUP.
  bool TakeCheckpointAsked();
};

}  // namespace convoy
