#include "trainer/run/loader_log.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/host/files.h"
#include "tests/temporary_folder.h"

namespace convoy {
namespace {

// Delivers nothing but statistics.
class FakeLoader final : public Loader {
 public:
  int64_t batches_per_epoch() const override { return 1; }
  int64_t rows() const override { return 1; }
  void Seek(int64_t, int64_t) override {}
  std::unique_ptr<Batch> Next() override { return nullptr; }
  void Recycle(std::unique_ptr<Batch>) override {}
  LoaderStatistics statistics() const override { return now; }
  std::vector<BadSample> TakeBadSamples() override { return {}; }

  LoaderStatistics now;
};

BadSample Bad(const std::string& name) {
  return {.name = name,
          .location = "a.tar at byte 512",
          .reason = "text",
          .epoch = 2,
          .position = 7,
          .replaced_by = "c/other"};
}

TEST(LoaderLog, EveryBadSampleIsALineWithItsStepAndNoneIsNoFile) {
  const TemporaryFolder folder;
  Log log(LogLevel::kSilent);
  const std::string path = folder.Path("bad-samples-rank-0.jsonl");
  {
    LoaderLog ledger(path, 0, true, 2, log);
    ledger.AddBadSamples({}, 1, "training");
    EXPECT_FALSE(std::filesystem::exists(path));
    ledger.AddBadSamples({Bad("c/a"), Bad("c/\xFF")}, 2, "training");
    ledger.AddBadSamples({Bad("c/b")}, 3, "validation");
  }
  const std::string first =
      "{\"event\":\"bad_sample\",\"step\":2,\"epoch\":2,\"set\":\"training\",\"position\":7,"
      "\"name\":\"c/a\",\"location\":\"a.tar at byte 512\",\"reason\":\"text\","
      "\"replaced_by\":\"c/other\"}\n";
  const std::string text = ReadText(path, ExitCode::kDisk);
  EXPECT_TRUE(text.starts_with(first)) << text;
  EXPECT_NE(text.find("\"step\":3,\"epoch\":2,\"set\":\"validation\""), std::string::npos);

  // A run that goes on after step 2 says step 3 again.
  LoaderLog resumed(path, 2, true, 2, log);
  EXPECT_EQ(ReadText(path, ExitCode::kDisk).find("\"step\":3"), std::string::npos);
  resumed.AddBadSamples({Bad("c/b")}, 3, "validation");
  EXPECT_EQ(ReadText(path, ExitCode::kDisk), text);

  // One that begins with the evaluation after step 3 says its bad samples again.
  LoaderLog evaluates_first(path, 3, false, 2, log);
  EXPECT_EQ(ReadText(path, ExitCode::kDisk).find("validation"), std::string::npos);
}

TEST(LoaderLog, AnEpochsFiguresAreThoseSinceTheLastOne) {
  const TemporaryFolder folder;
  Log log(LogLevel::kSilent);
  FakeLoader loader;
  const std::string path = folder.Path("metrics.jsonl");
  {
    MetricsFile metrics(path, 0, true, log);
    LoaderLog ledger(folder.Path("bad"), 0, true, 2, log);
    loader.now = {.images = 100, .resize_s = 1, .work_s = 2, .wait_s = 1, .batches = 10};
    ledger.AddTime(3);
    ledger.AddTime(1);
    ledger.EndEpoch(loader, 10, 0, &metrics);
    loader.now += {.images = 50, .resize_s = 2, .work_s = 4, .wait_s = 1, .batches = 10};
    ledger.AddTime(5);
    ledger.EndEpoch(loader, 20, 1, &metrics);
  }
  const std::string text = ReadText(path, ExitCode::kDisk);
  const size_t second = text.find('\n') + 1;
  EXPECT_TRUE(
      text.starts_with("{\"event\":\"loader\",\"step\":10,\"epoch\":0,\"images_per_s\":25.0,"))
      << text;
  EXPECT_NE(text.find("\"resize_ms\":10.0"), std::string::npos);
  EXPECT_NE(text.find("\"wait_percent\":25.0"), std::string::npos);
  EXPECT_NE(text.find("\"step\":20,\"epoch\":1,\"images_per_s\":10.0", second), std::string::npos);
  EXPECT_NE(text.find("\"resize_ms\":40.0", second), std::string::npos);
}

}  // namespace
}  // namespace convoy
