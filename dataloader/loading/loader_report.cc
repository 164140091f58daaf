// Works out from a loader's statistics where its time goes, and what limits it.
#include "dataloader/loader_report.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

// If the consumer waits for less than this share of the time, the loader does not hold it up.
constexpr double kNoticeableWait = 0.02;
// If reading takes this share of the work, the disk is at its limit, and not the processor.
constexpr double kInputBound = 0.5;

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

std::string VerdictOn(const LoaderReport& report, const LoaderStatistics& part, int threads,
                      double elapsed_s) {
  if (report.wait_share < kNoticeableWait) {
    return fmt::format("the loader keeps up; its threads are idle {:.0f} % of the time",
                       100 * report.idle_share);
  }
  const std::string held_up =
      fmt::format("the consumer waits {:.0f} % of the time", 100 * report.wait_share);
  if (part.read_s > kInputBound * part.work_s) {
    return fmt::format(
        "{}; input-bound: {:.0f} % of the threads' work is reading, {:.1f} MB/s in all: a faster "
        "disk, more memory or packed shards would help",
        held_up, 100 * part.read_s / part.work_s, report.read_mb_per_s);
  }
  // Each additional thread brings as much as each thread does now, until the consumer is the slower
  // one.
  const int more = std::max(1, threads / 2);
  double expected = report.images_per_busy_thread * (threads + more);
  const double consumer = Ratio(static_cast<double>(part.images), elapsed_s - part.wait_s);
  if (consumer > 0) expected = std::min(expected, consumer);
  return fmt::format("{}; with {} on cores of their own: about {:.0f} images/s", held_up,
                     FormatCount(more, "more thread"), expected);
}

template <typename Operation>
void Combine(LoaderStatistics& a, const LoaderStatistics& b, const Operation& operation) {
  operation(a.images, b.images);
  operation(a.bytes_read, b.bytes_read);
  operation(a.read_s, b.read_s);
  operation(a.decode_s, b.decode_s);
  operation(a.resize_s, b.resize_s);
  operation(a.augment_s, b.augment_s);
  operation(a.work_s, b.work_s);
  operation(a.wait_s, b.wait_s);
  operation(a.batches, b.batches);
  operation(a.ready_batches, b.ready_batches);
  operation(a.bad_samples, b.bad_samples);
}

}  // namespace

LoaderStatistics& LoaderStatistics::operator+=(const LoaderStatistics& other) {
  Combine(*this, other, [](auto& a, const auto& b) { a += b; });
  return *this;
}

LoaderStatistics LoaderStatistics::operator-(const LoaderStatistics& earlier) const {
  LoaderStatistics part = *this;
  Combine(part, earlier, [](auto& a, const auto& b) { a -= b; });
  return part;
}

LoaderReport LoaderReport::Of(const LoaderStatistics& part, int threads, double elapsed_s) {
  const auto images = static_cast<double>(part.images);
  const auto ms = [&](double seconds) { return 1e3 * Ratio(seconds, images); };
  LoaderReport report;
  report.images_per_s = Ratio(images, elapsed_s);
  report.images_per_busy_thread = Ratio(images, part.work_s);
  report.read_mb_per_s = 1e-6 * Ratio(static_cast<double>(part.bytes_read), elapsed_s);
  report.ready_batches =
      Ratio(static_cast<double>(part.ready_batches), static_cast<double>(part.batches));
  report.read_ms = ms(part.read_s);
  report.decode_ms = ms(part.decode_s);
  report.resize_ms = ms(part.resize_s);
  report.augment_ms = ms(part.augment_s);
  report.other_ms = ms(part.work_s - part.read_s - part.decode_s - part.resize_s - part.augment_s);
  report.idle_share =
      elapsed_s > 0 ? std::clamp(1 - part.work_s / (threads * elapsed_s), 0.0, 1.0) : 0;
  report.wait_share = std::clamp(Ratio(part.wait_s, elapsed_s), 0.0, 1.0);
  report.verdict = VerdictOn(report, part, threads, elapsed_s);
  return report;
}

}  // namespace convoy
