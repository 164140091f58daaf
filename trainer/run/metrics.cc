#include "trainer/run/metrics.h"

#include <cmath>
#include <filesystem>
#include <sstream>

#include <nlohmann/json.hpp>

#include "core/host/json_line.h"
#include "core/text.h"

namespace convoy {
namespace {

// ordered_json keeps the order of the documentation.
using Json = nlohmann::ordered_json;

// JSON has no NaN and no infinity.
Json NumberOrNull(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// The lines of `text` that a run resumed after `last_step` may keep.
std::string LinesUpTo(const std::string& text, int64_t last_step, bool keeps_evaluation) {
  std::istringstream lines(text);
  std::string kept, line;
  while (std::getline(lines, line)) {
    if (lines.eof()) break;  // without its newline: torn
    const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || !object.contains("step")) continue;
    if (!object["step"].is_number_integer()) continue;
    const auto step = object["step"].get<int64_t>();
    const bool is_of_evaluation =
        object.value("event", "") == "eval" || object.value("set", "") == "validation";
    const bool is_repeated = step == last_step && !keeps_evaluation && is_of_evaluation;
    if (step <= last_step && !is_repeated) kept += line + "\n";
  }
  return kept;
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, int64_t last_step, bool keeps_evaluation,
                         Log& log)
    : path_(path), log_(log) {
  try {
    if (std::filesystem::exists(path)) {
      WriteText(path, LinesUpTo(ReadText(path, ExitCode::kDisk), last_step, keeps_evaluation));
    }
  } catch (const std::exception& exception) {
    log.Warning("{}; the run goes on without metrics", exception.what());
    return;
  }
  try {
    file_.emplace(path);
  } catch (const Error& error) {
    log.Warning("{}; the run goes on without metrics", error.what());
  }
}

void MetricsFile::Add(const StepMetrics& metrics) {
  WriteLine(JsonLine(
      Json{{"event", "step"},
           {"step", metrics.step},
           {"epoch", metrics.epoch},
           {"loss", NumberOrNull(metrics.loss)},
           {"lr", metrics.lr},
           {"images_per_s", metrics.images_per_s},
           {"wait_data_ms", metrics.wait_data_ms},
           {"wait_comm_ms", metrics.wait_comm_ms ? Json(*metrics.wait_comm_ms) : Json()}}));
}

void MetricsFile::Add(const EvaluationMetrics& metrics) {
  WriteLine(JsonLine(Json{{"event", "eval"},
                          {"step", metrics.step},
                          {"epoch", metrics.epoch},
                          {"views", metrics.views},
                          {"images", metrics.images},
                          {"left_out", metrics.left_out},
                          {"loss", NumberOrNull(metrics.loss)},
                          {"top1", metrics.top1},
                          {"top5", metrics.top5}}));
}

void MetricsFile::Add(const BadSampleMetrics& metrics) {
  WriteLine(JsonLine(Json{{"event", "bad_sample"},
                          {"step", metrics.step},
                          {"epoch", metrics.bad.epoch},
                          {"set", metrics.set},
                          {"position", metrics.bad.position},
                          {"name", metrics.bad.name},
                          {"location", metrics.bad.location},
                          {"reason", metrics.bad.reason},
                          {"replaced_by", metrics.bad.replaced_by}}));
}

void MetricsFile::Add(const LoaderMetrics& metrics) {
  const LoaderReport& report = metrics.report;
  WriteLine(JsonLine(Json{{"event", "loader"},
                          {"step", metrics.step},
                          {"epoch", metrics.epoch},
                          {"images_per_s", report.images_per_s},
                          {"images_per_busy_thread", report.images_per_busy_thread},
                          {"read_mb_per_s", report.read_mb_per_s},
                          {"read_ms", report.read_ms},
                          {"decode_ms", report.decode_ms},
                          {"resize_ms", report.resize_ms},
                          {"augment_ms", report.augment_ms},
                          {"ready_batches", report.ready_batches},
                          {"idle_percent", 100 * report.idle_share},
                          {"wait_percent", 100 * report.wait_share}}));
}

void MetricsFile::Add(const RankTimesMetrics& metrics) {
  WriteLine(JsonLine(Json{{"event", "ranks"},
                          {"step", metrics.step},
                          {"epoch", metrics.epoch},
                          {"min_ms", metrics.min_ms},
                          {"median_ms", metrics.median_ms},
                          {"max_ms", metrics.max_ms},
                          {"slowest_rank", metrics.slowest_rank},
                          {"slowest_host", metrics.slowest_host}}));
}

void MetricsFile::Add(const LossSpikeMetrics& metrics) {
  WriteLine(JsonLine(Json{{"event", "loss_spike"},
                          {"step", metrics.step},
                          {"epoch", metrics.epoch},
                          {"loss", metrics.spike.loss},
                          {"mean", metrics.spike.mean},
                          {"deviation", metrics.spike.deviation}}));
}

void MetricsFile::WriteLine(const std::string& line) {
  if (!file_) return;
  try {
    // One write per line: a kill tears at most the last one.
    file_->Append(line + "\n");
  } catch (const Error& error) {
    if (lost_++ == 0) log_.Warning("{}; the run goes on, and its lines are lost", error.what());
    return;
  }
  if (lost_ == 0) return;
  log_.Warning("{} can be written again; {} lost", path_, FormatCount(lost_, "line"));
  lost_ = 0;
}

}  // namespace convoy
