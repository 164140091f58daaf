// core/error.h - the one exception type, the exit codes, and checks that always run.
//
// Everything that a user can cause, or that the machine can do to a run, is an Error: one line that
// says what, where, expected and found, a hint that says what to do, and the exit code of the
// process. Broken invariants of the program itself are Errors too, with ExitCode::kDefect.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace convoy {

// Exit codes of a rank (docs/run.md lists them for users).
enum class ExitCode : int {
  kDone = 0,
  kDefect = 1,        // a broken invariant inside Convoy
  kUsage = 2,         // command line or configuration
  kData = 3,          // the data set
  kCheckpoint = 4,    // a checkpoint that cannot be used
  kDisk = 5,          // reading or writing failed, disk full
  kPeer = 6,          // another rank is lost or late
  kNumbers = 7,       // NaN or Inf; weights of two ranks that differ
  kDevice = 8,        // no device, or the device failed
  kInterrupted = 75,  // stopped by a signal with a good checkpoint: run the same command again
};

// `message` is one line without a full stop: what, where, expected, found. `hint` is what to do
// next; it may be empty. what() joins the two.
class Error : public std::runtime_error {
 public:
  Error(ExitCode exit_code, const std::string& message, std::string hint = {});

  ExitCode exit_code() const noexcept { return exit_code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  ExitCode exit_code_;
  std::string message_;
  std::string hint_;
};

namespace internal {
[[noreturn]] void FailCheck(const char* file, int line, const char* condition,
                            const std::string& message);
inline std::string CheckMessage() { return {}; }
template <typename... Args>
std::string CheckMessage(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace internal

// CONVOY_CHECK(condition) or CONVOY_CHECK(condition, "format {}", values...): throws a kDefect
// Error with file and line when the condition is false. Evaluated in every build, NDEBUG or not.
#define CONVOY_CHECK(condition, ...)                                                \
  do {                                                                              \
    if (!(condition)) {                                                             \
      ::convoy::internal::FailCheck(__FILE__, __LINE__, #condition,                 \
                                    ::convoy::internal::CheckMessage(__VA_ARGS__)); \
    }                                                                               \
  } while (false)

}  // namespace convoy
