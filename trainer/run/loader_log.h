// trainer/run/loader_log.h - what a rank's loader has to tell: bad samples by step, and where its
// time went, by epoch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/bad_samples.h"
#include "dataloader/loader.h"
#include "dataloader/loader_report.h"
#include "trainer/run/metrics.h"

namespace convoy {

class LoaderLog {
 public:
  // Bad samples go to the file `path`, which is made when there is one. Of an earlier run's file it
  // keeps what belongs to the steps up to `last_step`; without `keeps_evaluation`, what an
  // evaluation after that step had entered is dropped too: it will be repeated.
  LoaderLog(std::string path, int64_t last_step, bool keeps_evaluation, int threads, Log& log);

  // Enters bad samples, found for `step` in the `set` "training" or "validation".
  void AddBadSamples(const std::vector<BadSample>& bad_samples, int64_t step, const char* set);
  // Counts `seconds` of training as time in which the loader could work.
  void AddTime(double seconds) { elapsed_s_ += seconds; }
  // Says on the log where the time went since the last call, and in `metrics`, which may be null.
  void EndEpoch(const Loader& loader, int64_t step, int64_t epoch, MetricsFile* metrics);

 private:
  void OpenFile();

  std::string path_;
  int64_t last_step_;
  bool keeps_evaluation_;
  int threads_;
  Log& log_;
  std::unique_ptr<MetricsFile> file_;
  LoaderStatistics told_;
  double elapsed_s_ = 0;
};

}  // namespace convoy
