#include "trainer/run/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/text.h"

namespace convoy {
namespace {

// Under mpirun standard error is a pipe; convoyrun says how wide the terminal behind it is. 0 where
// there is none.
size_t TerminalWidth() {
  constexpr size_t kNarrowest = 21, kUsual = 80;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) {
    return size.ws_col >= kNarrowest ? size.ws_col : kUsual;
  }
  const char* told = std::getenv("CONVOY_TERMINAL_WIDTH");
  if (told == nullptr) return 0;
  const auto width = static_cast<size_t>(ParseInteger(told).value_or(0));
  return width >= kNarrowest ? width : kUsual;
}

// A terminal that is gone must not end a run: no exception, whatever becomes of the text.
void Draw(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

Progress::Style Progress::StyleOfTerminal() {
  return TerminalWidth() > 0 ? Style::kBar : Style::kLines;
}

Progress::Progress(Log& log, Style style)
    : log_(log), style_(style), width_(std::max<size_t>(TerminalWidth(), 1)) {
  if (style == Style::kBar) log.SetBeforeLine([this] { Clear(); });
}

Progress::~Progress() {
  if (style_ != Style::kBar) return;
  log_.SetBeforeLine({});
  Clear();
}

void Progress::Show(double fraction, double remaining_s, const std::string& text) {
  if (style_ != Style::kBar) return;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_drawn_ < std::chrono::milliseconds(100)) return;
  last_drawn_ = now;
  constexpr int kCells = 24;
  const int full = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * kCells);
  std::string line = fmt::format("[{:#<{}}{:.<{}}] {:3.0f} %  {}  {} left", "", full, "",
                                 kCells - full, 100 * fraction, text, FormatDuration(remaining_s));
  line.resize(std::min(line.size(), width_ - 1));
  Draw("\r\033[K" + line);
  drawn_ = true;
}

void Progress::Line(const std::string& text) {
  if (style_ == Style::kLines) log_.Info("{}", text);
}

void Progress::Clear() {
  const std::lock_guard lock(mutex_);
  if (!drawn_) return;
  Draw("\r\033[K");
  drawn_ = false;
}

}  // namespace convoy
