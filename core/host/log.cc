#include "core/host/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <mutex>

namespace convoy {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kSilent:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

}  // namespace

struct Log::Implementation {
  std::mutex mutex;
  LogLevel level = LogLevel::kInfo;
  std::function<void()> before_line;
  spdlog::logger logger{"convoy", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
};

Log::Log(LogLevel level, int rank) : implementation_(std::make_unique<Implementation>()) {
  implementation_->level = level;
  SetRank(rank);
}

void Log::SetRank(int rank) {
  const std::lock_guard lock(implementation_->mutex);
  const LogLevel level = implementation_->level;
  const bool quiet = rank > 0 && level < LogLevel::kWarning;
  implementation_->logger.set_level(ToSpdlog(quiet ? LogLevel::kWarning : level));
  implementation_->logger.set_pattern(rank > 0 ? fmt::format("%H:%M:%S [rank {}] %v", rank)
                                               : std::string("%H:%M:%S %v"));
}

Log::~Log() = default;

void Log::SetBeforeLine(std::function<void()> before_line) {
  const std::lock_guard lock(implementation_->mutex);
  implementation_->before_line = std::move(before_line);
}

void Log::Write(LogLevel level, const std::string& line) {
  const std::lock_guard lock(implementation_->mutex);
  spdlog::logger& logger = implementation_->logger;
  if (!logger.should_log(ToSpdlog(level))) return;
  if (implementation_->before_line) implementation_->before_line();
  const char* label = level == LogLevel::kWarning ? "warning: "
                      : level == LogLevel::kError ? "error: "
                                                  : "";
  logger.log(ToSpdlog(level), "{}{}", label, line);
  logger.flush();
}

}  // namespace convoy
