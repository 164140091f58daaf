#include "trainer/run/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/host/files.h"
#include "tests/temporary_folder.h"

namespace convoy {
namespace {

std::string ReadAll(const std::string& path) { return ReadText(path, ExitCode::kDisk); }

TEST(MetricsFile, LinesHaveTheDocumentedFields) {
  TemporaryFolder folder;
  Log log(LogLevel::kSilent);
  const std::string path = folder.Path("metrics.jsonl");
  {
    MetricsFile file(path, 0, true, log);
    file.Add(StepMetrics{1, 0, 2.5, 0.01, 90, 3, 4});
    file.Add(EvaluationMetrics{1, 1, 10, 450, 3, 2.25, 40.5, 80});
    file.Add(StepMetrics{.step = 2, .loss = std::nan("")});
    file.Add(LossSpikeMetrics{3, 0, {.loss = 9.5, .mean = 2.5, .deviation = 0.5}});
  }
  EXPECT_EQ(ReadAll(path),
            "{\"event\":\"step\",\"step\":1,\"epoch\":0,\"loss\":2.5,\"lr\":0.01,"
            "\"images_per_s\":90.0,\"wait_data_ms\":3.0,\"wait_comm_ms\":4.0}\n"
            "{\"event\":\"eval\",\"step\":1,\"epoch\":1,\"views\":10,\"images\":450,\"left_out\":3,"
            "\"loss\":2.25,"
            "\"top1\":40.5,\"top5\":80.0}\n"
            "{\"event\":\"step\",\"step\":2,\"epoch\":0,\"loss\":null,\"lr\":0.0,"
            "\"images_per_s\":0.0,\"wait_data_ms\":0.0,\"wait_comm_ms\":null}\n"
            "{\"event\":\"loss_spike\",\"step\":3,\"epoch\":0,\"loss\":9.5,\"mean\":2.5,"
            "\"deviation\":0.5}\n");
}

TEST(MetricsFile, ResumingDropsLaterStepsAndATornLine) {
  TemporaryFolder folder;
  Log log(LogLevel::kSilent);
  const std::string path = folder.Path("metrics.jsonl");
  std::ofstream(path) << "{\"event\":\"step\",\"step\":1}\n"
                         "{\"event\":\"step\",\"step\":2}\n"
                         "{\"event\":\"eval\",\"step\":2}\n"
                         "{\"event\":\"step\",\"step\":3}\n"
                         "{\"event\":\"step\",\"ste";
  MetricsFile file(path, 2, true, log);
  EXPECT_EQ(ReadAll(path),
            "{\"event\":\"step\",\"step\":1}\n"
            "{\"event\":\"step\",\"step\":2}\n"
            "{\"event\":\"eval\",\"step\":2}\n");
}

TEST(MetricsFile, AnEvaluationThatWillBeRepeatedIsDropped) {
  TemporaryFolder folder;
  Log log(LogLevel::kSilent);
  const std::string path = folder.Path("metrics.jsonl");
  std::ofstream(path) << "{\"event\":\"eval\",\"step\":1}\n"
                         "{\"event\":\"step\",\"step\":2}\n"
                         "{\"event\":\"eval\",\"step\":2}\n";
  MetricsFile file(path, 2, /*keeps_evaluation=*/false, log);
  EXPECT_EQ(ReadAll(path),
            "{\"event\":\"eval\",\"step\":1}\n"
            "{\"event\":\"step\",\"step\":2}\n");
}

TEST(MetricsFile, AFileThatCannotBeWrittenDoesNotStopARun) {
  Log log(LogLevel::kSilent);
  MetricsFile missing_folder("/proc/none/metrics.jsonl", 0, true, log);
  missing_folder.Add(StepMetrics{});
  MetricsFile full_disk("/dev/full", -1, true, log);
  full_disk.Add(StepMetrics{});
  full_disk.Add(StepMetrics{});
}

}  // namespace
}  // namespace convoy
