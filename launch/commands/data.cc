// convoy data index and convoy data stats; chooses among all data commands.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <optional>

#include <nlohmann/json.hpp>

#include "core/host/files.h"
#include "core/host/json_line.h"
#include "core/text.h"
#include "dataloader/bad_samples.h"
#include "dataloader/fingerprint.h"
#include "dataloader/statistics.h"
#include "launch/command.h"
#include "launch/commands/data_commands.h"
#include "launch/options/run_options.h"
#include "trainer/data_statistics.h"
#include "trainer/ranks/agreement.h"
#include "trainer/run/run_setup.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

// Throws (kData) if an archive of an official name does not have the official size.
void CheckPublishedSize(const std::string& path) {
  const std::optional<int64_t> published = PublishedBytes(path);
  std::error_code unreachable;
  if (!published || !std::filesystem::is_regular_file(path, unreachable)) return;
  const int64_t bytes = File::OpenForReading(path, ExitCode::kData).size();
  if (bytes == *published) return;
  throw Error(ExitCode::kData,
              fmt::format("{} has {} bytes, the published archive has {}", path, FormatCount(bytes),
                          FormatCount(*published)),
              "download the rest of it; an archive of your own needs another name");
}

ExitCode IndexCommand(int argc, const char* const* argv) {
  DataArguments arguments;
  OptionTable table("convoy data index", "note what an archive holds, so that runs start at once");
  AddDataArguments(table, &arguments);
  table.Examples(
      "Example\n"
      "  convoy data index /data/ILSVRC2012_img_train.tar\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy data index");
  RequireOneWord(arguments);
  Log log;
  CheckPublishedSize(arguments.location());
  const auto dataset = OpenDataset(arguments.location(), arguments.dataset, log);
  if (arguments.as_json) {
    const Json json = {{"description", dataset->Describe()},
                       {"images", dataset->size()},
                       {"classes", dataset->classes()},
                       {"left_out", CountsOf(dataset->left_out())}};
    std::cout << JsonLine(json) << "\n";
    return ExitCode::kDone;
  }
  fmt::print("{}\n", dataset->Describe());
  return ExitCode::kDone;
}

Json ToJson(const DataStatistics& statistics) {
  return {{"images", statistics.images},
          {"left_out", statistics.left_out},
          {"resize", statistics.resize},
          {"channel_mean", statistics.channel_mean},
          {"channel_deviation", statistics.channel_deviation},
          {"colour_covariance", statistics.colour_covariance}};
}

ExitCode StatsCommand(int argc, const char* const* argv) {
  DataArguments arguments;
  WorldOptions world_options;
  Geometry geometry = Geometry::kSquare2012;
  int resize = 256, channels = 3;
  std::string output;
  DataConfig loading;
  OptionTable table("convoy data stats",
                    "mean image, mean per channel and colour covariance of a training set");
  AddDataArguments(table, &arguments);
  table.Group("Statistics");
  table.Add("geometry", "KIND", "square2012", "as in convoy train", GeometryStore(&geometry));
  table.Add("resize", "PIXELS", "256", "short side of the images, side of the mean image",
            store::Integer("resize", 1, 4096, [&](int64_t n) { resize = static_cast<int>(n); }));
  table.Add("channels", "1|3", "3", "grey or colour",
            store::Choice<int>("channels", {{"1", 1}, {"3", 3}}, &channels));
  AddBadSampleOptions(table, &loading);
  table.Add("output", "FILE", "", "where to (default: beside the index, where convoy train looks)",
            store::Text(&output));
  table.Add("deadline", "SECONDS", "0", "give up a rank that is late by so much; 0: never",
            store::Number("deadline", 0, 1e9, [&](double s) { world_options.deadline_s = s; }));
  table.Examples(
      "Example\n"
      "  convoy data stats /data/ILSVRC2012_img_train.tar\n"
      "  launch/convoyrun -n 16 data stats /data/ILSVRC2012_img_train.tar     in parallel\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneWord(arguments);
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log& log) {
    loading.devkit = arguments.dataset.devkit;
    loading.index_folder = arguments.dataset.index_folder;
    loading.workers = arguments.workers;
    const auto dataset = OpenTogether(arguments.location(), loading, world, log);
    const std::string path =
        !output.empty() ? output
                        : StatisticsPath(arguments.location(), arguments.dataset.index_folder,
                                         *dataset, geometry, resize, channels);
    RunTogether(world, [&] {
      if (path.empty()) {
        throw Error(ExitCode::kUsage, "there is no place to keep the statistics", "give --output");
      }
      if (!output.empty() && PathExists(output) && !IsStatisticsFile(output)) {
        throw Error(ExitCode::kUsage, fmt::format("--output {} holds something else", output),
                    "give a new file, or one of earlier statistics");
      }
    });
    const StatisticsRequest request{.geometry = geometry,
                                    .resize = resize,
                                    .channels = channels,
                                    .count = dataset->size(),
                                    .loading = loading};
    JobProgress progress(log, "images", request.FirstOf(1, world.size()));
    const DataStatistics statistics =
        ComputeStatistics(*dataset, request, world, log, [&](int64_t done) {
          if (world.rank() == 0) progress(done);
        });
    RunTogether(world, [&] {
      if (world.rank() != 0) return;
      SaveStatistics(statistics, path);
      if (arguments.as_json) {
        Json json = ToJson(statistics);
        json["file"] = path;
        std::cout << JsonLine(json) << "\n";
        return;
      }
      fmt::print(
          "{} images{}, short side {}\nmean per channel      {:.3f}\nstandard deviation    "
          "{:.3f}\nwritten to {}\n",
          FormatCount(statistics.images), DescribeLeftOut(statistics.left_out), resize,
          fmt::join(statistics.channel_mean, " "), fmt::join(statistics.channel_deviation, " "),
          path);
    });
    return ExitCode::kDone;
  });
}

}  // namespace

ExitCode DataCommand(int argc, const char* const* argv) {
  const std::string what = argc > 0 ? argv[0] : "--help";
  if (what == "index") return IndexCommand(argc - 1, argv + 1);
  if (what == "stats") return StatsCommand(argc - 1, argv + 1);
  if (what == "verify") return VerifyCommand(argc - 1, argv + 1);
  if (what == "pack") return PackCommand(argc - 1, argv + 1);
  if (what == "--help" || what == "-h") {
    std::cout << "convoy data - index, check, measure and pack data sets\n\n"
                 "Usage: convoy data index|stats|verify|pack DATA [options]\n\n"
                 "  index   note what an archive holds, so that runs start at once\n"
                 "  stats   mean image, mean per channel and colour covariance\n"
                 "  verify  decode every image; name the bad ones and count the odd\n"
                 "  pack    write smaller JPEGs, or the same without metadata, as shards\n";
    return argc > 0 ? ExitCode::kDone : ExitCode::kUsage;
  }
  throw Error(ExitCode::kUsage, fmt::format("convoy data {}: there is no such command", what),
              "the commands are index, stats, verify and pack");
}

}  // namespace convoy
