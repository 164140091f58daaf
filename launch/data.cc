// convoy data index|stats, and the choice among all data commands.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/text.h"
#include "launch/command.h"
#include "launch/data_commands.h"
#include "launch/run_options.h"
#include "trainer/agreement.h"
#include "trainer/session.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

ExitCode IndexCommand(int argc, const char* const* argv) {
  DataArguments arguments;
  OptionTable table("convoy data index", "note what an archive holds, so that runs start at once");
  AddDataArguments(table, &arguments);
  table.Examples("Example\n  convoy data index /data/ILSVRC2012_img_train.tar\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy data index");
  RequireOneWord(arguments);
  Log log;
  const auto dataset = OpenDataset(arguments.location(), arguments.dataset, log);
  if (arguments.as_json) {
    std::cout << Json{{"description", dataset->Describe()},
                      {"images", dataset->size()},
                      {"classes", dataset->classes()}}
                     .dump()
              << "\n";
  } else {
    fmt::print("{}\n", dataset->Describe());
  }
  return ExitCode::kDone;
}

Json ToJson(const DataStatistics& statistics) {
  return {{"images", statistics.images},
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
  OptionTable table("convoy data stats",
                    "mean image, mean per channel and colour covariance of a training set");
  AddDataArguments(table, &arguments);
  table.Group("Statistics");
  table.Add("geometry", "KIND", "square2012", "as in convoy train", GeometryStore(&geometry));
  table.Add("resize", "PIXELS", "256", "short side of the images, side of the mean image",
            store::Integer("resize", 1, 4096, [&](int64_t n) { resize = static_cast<int>(n); }));
  table.Add("channels", "1|3", "3", "grey or colour",
            store::Choice<int>("channels", {{"1", 1}, {"3", 3}}, &channels));
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
  return RunOnAllRanks(world_options, "", [&](World& world, Log& log) {
    const DataConfig config{.devkit = arguments.dataset.devkit,
                            .index_folder = arguments.dataset.index_folder};
    const auto dataset = OpenTogether(arguments.location(), config, world, log);
    const std::string path =
        !output.empty() ? output
                        : StatisticsPath(arguments.location(), arguments.dataset.index_folder,
                                         *dataset, geometry, resize, channels);
    StatisticsAccumulator accumulator(geometry, resize, channels);
    RunTogether(world, [&] {
      if (path.empty()) {
        throw Error(ExitCode::kUsage, "there is no place to keep the statistics", "give --output");
      }
      const int64_t begin = world.rank() * dataset->size() / world.size();
      const int64_t end = (world.rank() + 1) * dataset->size() / world.size();
      JobProgress progress(log, "images", end - begin);
      accumulator.Add(*dataset, begin, end, arguments.workers, [&](int64_t done) {
        if (world.rank() == 0) progress(done);
      });
    });
    HostStream stream;
    world.all().AllReduce(stream, accumulator.Sums(), ReduceOp::kSum, "statistics").Wait(stream);
    RunTogether(world, [&] {
      if (world.rank() != 0) return;
      const DataStatistics statistics = accumulator.Finish();
      SaveStatistics(statistics, path);
      if (arguments.as_json) {
        Json json = ToJson(statistics);
        json["file"] = path;
        std::cout << json.dump() << "\n";
        return;
      }
      fmt::print(
          "{} images, short side {}\nmean per channel      {:.3f}\nstandard deviation    "
          "{:.3f}\nwritten to {}\n",
          FormatCount(statistics.images), resize, fmt::join(statistics.channel_mean, " "),
          fmt::join(statistics.channel_deviation, " "), path);
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
