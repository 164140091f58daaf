// trainer/run/progress.h - what a person sees while a run goes on: a bar on a terminal, lines in a
// log.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "core/host/log.h"

namespace convoy {

// Only rank 0 makes one. Thread-safe: other threads may write to the log.
class Progress {
 public:
  enum class Style { kBar, kLines };
  // Returns kBar if standard error is a terminal.
  static Style StyleOfTerminal();

  // `log` clears the bar before its own lines.
  Progress(Log& log, Style style);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `fraction` of the whole is done and `remaining_s` are left; `text` says what is shown behind
  // the bar. On a terminal the bar is redrawn at most ten times a second; in a log nothing is
  // printed.
  void Show(double fraction, double remaining_s, const std::string& text);
  // One line in a log; on a terminal nothing, since the bar says it.
  void Line(const std::string& text);

  Style style() const { return style_; }

 private:
  void Clear();

  Log& log_;
  Style style_;
  size_t width_;      // columns
  std::mutex mutex_;  // of what follows, and of what is drawn
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_drawn_{};
};

}  // namespace convoy
