// core/host/log.h - lines for people, on standard error.
//
// One Log per rank, passed by reference. Rank 0 prints everything from its level up; the other
// ranks print warnings and errors only, with their rank in front. Thread-safe.
#pragma once

#include <fmt/core.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace convoy {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kSilent };

class Log {
 public:
  // Writes to standard error. `rank` < 0 means a program without ranks.
  explicit Log(LogLevel level = LogLevel::kInfo, int rank = -1);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // As for the constructor: for a rank that is known later.
  void SetRank(int rank);
  // Called before each line is written: a progress bar clears itself there.
  void SetBeforeLine(std::function<void()> before_line);

  void Write(LogLevel level, const std::string& line);

  template <typename... Args>
  void Debug(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Info(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Warning(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Error(fmt::format_string<Args...> format, Args&&... args) {
    Write(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace convoy
