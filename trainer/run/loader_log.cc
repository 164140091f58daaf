#include "trainer/run/loader_log.h"

#include <utility>

#include "core/host/files.h"

namespace convoy {

LoaderLog::LoaderLog(std::string path, int64_t last_step, bool keeps_evaluation, int threads,
                     Log& log)
    : path_(std::move(path)),
      last_step_(last_step),
      keeps_evaluation_(keeps_evaluation),
      threads_(threads),
      log_(log) {
  if (PathExists(path_)) OpenFile();
}

void LoaderLog::OpenFile() {
  file_ = std::make_unique<MetricsFile>(path_, last_step_, keeps_evaluation_, log_);
}

void LoaderLog::AddBadSamples(const std::vector<BadSample>& bad_samples, int64_t step,
                              const char* set) {
  for (const BadSample& bad : bad_samples) {
    if (!file_) OpenFile();
    file_->Add(BadSampleMetrics{.step = step, .set = set, .bad = bad});
  }
}

void LoaderLog::EndEpoch(const Loader& loader, int64_t step, int64_t epoch, MetricsFile* metrics) {
  const LoaderStatistics now = loader.statistics();
  const LoaderReport report = LoaderReport::Of(now - told_, threads_, elapsed_s_);
  told_ = now;
  elapsed_s_ = 0;
  log_.Info(
      "loader: {:.1f} images/s, {:.1f} per busy thread; ms per image: read {:.3f}, decode {:.3f}, "
      "resize {:.3f}, augment {:.3f}; {:.1f} batches ready; {}",
      report.images_per_s, report.images_per_busy_thread, report.read_ms, report.decode_ms,
      report.resize_ms, report.augment_ms, report.ready_batches, report.verdict);
  if (metrics != nullptr)
    metrics->Add(LoaderMetrics{.step = step, .epoch = epoch, .report = report});
}

}  // namespace convoy
