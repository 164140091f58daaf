#include "core/error.h"

#include <string_view>

namespace convoy {
namespace {

std::string Join(const std::string& message, const std::string& hint) {
  return hint.empty() ? message : message + ". Hint: " + hint;
}

// Keeps the path from the folder of the project on: "core/error.cc".
std::string_view ShortPath(std::string_view path) {
  const size_t last = path.rfind('/');
  if (last == std::string_view::npos || last == 0) return path;
  const size_t previous = path.rfind('/', last - 1);
  return previous == std::string_view::npos ? path : path.substr(previous + 1);
}

}  // namespace

Error::Error(ExitCode exit_code, const std::string& message, std::string hint)
    : std::runtime_error(Join(message, hint)),
      exit_code_(exit_code),
      message_(message),
      hint_(std::move(hint)) {}

namespace internal {

void FailCheck(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(ExitCode::kDefect,
              fmt::format("{}:{}: {} does not hold{}{}", ShortPath(file), line, condition,
                          message.empty() ? "" : ": ", message),
              "this is a defect of Convoy; please report it with this line");
}

}  // namespace internal
}  // namespace convoy
