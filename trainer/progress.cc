#include "trainer/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/text.h"

namespace convoy {
namespace {

size_t TerminalWidth() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20;
  return known ? size.ws_col : 80;
}

}  // namespace

Progress::Style Progress::StyleOfTerminal() {
  return isatty(STDERR_FILENO) == 1 ? Style::kBar : Style::kLines;
}

Progress::Progress(Log& log, Style style) : log_(log), style_(style) {
  if (style == Style::kBar) log.SetBeforeLine([this] { Clear(); });
}

Progress::~Progress() {
  if (style_ != Style::kBar) return;
  log_.SetBeforeLine({});
  Clear();
}

void Progress::Show(double fraction, double remaining_s, const std::string& text) {
  if (style_ != Style::kBar) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_drawn_ < std::chrono::milliseconds(100)) return;
  last_drawn_ = now;
  constexpr int kCells = 24;
  const int full = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * kCells);
  std::string line = fmt::format("[{:#<{}}{:.<{}}] {:3.0f} %  {}  {} left", "", full, "",
                                 kCells - full, 100 * fraction, text, FormatDuration(remaining_s));
  line.resize(std::min(line.size(), TerminalWidth() - 1));
  fmt::print(stderr, "\r\033[K{}", line);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::Line(const std::string& text) {
  if (style_ == Style::kLines) log_.Info("{}", text);
}

void Progress::Clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace convoy
