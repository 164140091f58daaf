// trainer/run/metrics.h - metrics.jsonl: one JSON object a line, no line twice, whatever stops the
// run.
#pragma once

#include <optional>
#include <string>

#include "core/host/files.h"
#include "core/host/log.h"
#include "dataloader/loader.h"
#include "dataloader/loader_report.h"
#include "trainer/run/loss_spikes.h"

namespace convoy {

struct StepMetrics {
  int64_t step = 0, epoch = 0;
  double loss = 0, lr = 0;
  double images_per_s = 0;
  double wait_data_ms = 0;  // for the loader, and for crops from the other towers
  // For gradients and activations of other ranks: what overlap did not hide. Nothing if a device
  // waits for them by itself.
  std::optional<double> wait_comm_ms;
};

struct EvaluationMetrics {
  int64_t step = 0, epoch = 0;
  int views = 1;
  int64_t images = 0, left_out = 0;     // evaluated; bad ones
  double loss = 0, top1 = 0, top5 = 0;  // accuracies in percent
};

// A sample that could not be decoded, and what was delivered in its place.
struct BadSampleMetrics {
  int64_t step = 0;
  const char* set = "training";  // or "validation"
  BadSample bad;
};

// Of one rank's loader, over an epoch.
struct LoaderMetrics {
  int64_t step = 0, epoch = 0;
  LoaderReport report;
};

// How long the ranks take in a step without waiting for each other: the mean of an epoch's steps.
struct RankTimesMetrics {
  int64_t step = 0, epoch = 0;
  double min_ms = 0, median_ms = 0, max_ms = 0;
  int slowest_rank = 0;
  std::string slowest_host;
};

// A loss far above those before it.
struct LossSpikeMetrics {
  int64_t step = 0, epoch = 0;
  LossSpike spike;
};

// Appends to a file. Failing to write never stops a run: it warns once, loses lines, and says how
// many when the file can be written again.
class MetricsFile {
 public:
  // Keeps what the file says of steps up to `last_step`, drops the rest and a torn last line.
  // Without `keeps_evaluation`, an evaluation of `last_step` is dropped too: it will be repeated.
  MetricsFile(const std::string& path, int64_t last_step, bool keeps_evaluation, Log& log);

  void Add(const StepMetrics& metrics);
  void Add(const EvaluationMetrics& metrics);
  void Add(const BadSampleMetrics& metrics);
  void Add(const LoaderMetrics& metrics);
  void Add(const RankTimesMetrics& metrics);
  void Add(const LossSpikeMetrics& metrics);

 private:
  void WriteLine(const std::string& line);

  std::optional<AppendedFile> file_;
  int64_t lost_ = 0;  // lines in a row that could not be written
  std::string path_;
  Log& log_;
};

}  // namespace convoy
