// convoy data index|stats|verify|pack.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "core/text.h"
#include "launch/command.h"
#include "launch/run_options.h"
#include "trainer/agreement.h"
#include "trainer/progress.h"
#include "trainer/session.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

// What every one of these commands takes.
struct DataArguments {
  std::vector<std::string> words;  // the data set
  DatasetOptions dataset;
  int workers = 2;
  bool as_json = false;

  const std::string& location() const { return words.front(); }
};

void AddDataArguments(OptionTable& table, DataArguments* arguments) {
  table.Positional("DATA", "a data set in any form that convoy train takes", 1, &arguments->words);
  table.Group("Data");
  table.Add("devkit", "PATH", "", "ILSVRC development kit (folder or archive)",
            store::Text(&arguments->dataset.devkit));
  table.Add("index-folder", "PATH", "", "where indexes of archives are kept (default: beside them)",
            store::Text(&arguments->dataset.index_folder));
  table.Add("workers,j", "N", "2", "threads", store::Integer("workers", 1, 1024, [=](int64_t n) {
              arguments->workers = static_cast<int>(n);
            }));
  table.AddFlag("json", "one JSON object", &arguments->as_json);
}

void RequireOneWord(const DataArguments& arguments) {
  if (arguments.words.size() == 1) return;
  throw Error(ExitCode::kUsage,
              fmt::format("expected one data set, found also '{}'", arguments.words[1]));
}

// Shows how far a long job is, with the time left. Called from one thread at a time.
class JobProgress {
 public:
  JobProgress(Log& log, std::string what, int64_t total)
      : progress_(log, Progress::StyleOfTerminal()), what_(std::move(what)), total_(total) {}

  void operator()(int64_t done) {
    const double elapsed = SecondsSince(start_);
    const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1;
    progress_.Show(share, share > 0 ? elapsed * (1 - share) / share : 0,
                   fmt::format("{} {} of {}", what_, FormatCount(done), FormatCount(total_)));
  }

 private:
  Progress progress_;
  std::string what_;
  int64_t total_;
  Clock::time_point start_ = Clock::now();
};

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
      // In pieces, for the sake of the progress bar.
      constexpr int64_t kPiece = 256;
      JobProgress progress(log, "images", end - begin);
      for (int64_t first = begin; first < end; first += kPiece) {
        accumulator.Add(*dataset, first, std::min(first + kPiece, end), arguments.workers);
        if (world.rank() == 0) progress(std::min(first + kPiece, end) - begin);
      }
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

ExitCode VerifyCommand(int argc, const char* const* argv) {
  DataArguments arguments;
  OptionTable table("convoy data verify",
                    "decode every image; name the bad ones and count the odd");
  AddDataArguments(table, &arguments);
  table.Examples("Example\n  convoy data verify photos.tar:train -j 8\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy data verify");
  RequireOneWord(arguments);
  Log log;
  const auto dataset = OpenDataset(arguments.location(), arguments.dataset, log);
  JobProgress progress(log, "images", dataset->size());
  const VerifyReport report = VerifyDataset(*dataset, 0, dataset->size(), arguments.workers,
                                            [&](int64_t done) { progress(done); });
  if (arguments.as_json) {
    Json json = {{"images", report.images},
                 {"bytes", report.bytes},
                 {"grey", report.grey},
                 {"cmyk", report.cmyk},
                 {"png", report.png},
                 {"progressive", report.progressive},
                 {"exif_rotated", report.exif_rotated},
                 {"small", report.small},
                 {"bad", Json::array()}};
    for (const BadSample& bad : report.bad) {
      json["bad"].push_back(
          {{"name", bad.name}, {"location", bad.location}, {"reason", bad.reason}});
    }
    std::cout << json.dump() << "\n";
  } else {
    fmt::print(
        "{} images, {}: {} grey, {} CMYK, {} PNG, {} progressive, {} with an EXIF rotation "
        "(ignored), {} smaller than the crop\n",
        FormatCount(report.images), FormatBytes(static_cast<double>(report.bytes)), report.grey,
        report.cmyk, report.png, report.progressive, report.exif_rotated, report.small);
    for (const BadSample& bad : report.bad) {
      fmt::print("bad: {} ({}): {}\n", bad.name, bad.location, bad.reason);
    }
    fmt::print("{}\n", report.bad.empty() ? "no bad image"
                                          : fmt::format("{} bad images", report.bad.size()));
  }
  return report.bad.empty() ? ExitCode::kDone : ExitCode::kData;
}

ExitCode PackCommand(int argc, const char* const* argv) {
  DataArguments arguments;
  PackOptions options;
  std::string output;
  OptionTable table("convoy data pack",
                    "write a data set as JPEGs in the layout of ImageNet's training archive");
  AddDataArguments(table, &arguments);
  table.Group("Packing");
  table.Add("output", "FILE", "", "the tar of class tars to write", store::Text(&output));
  table.Add("count", "N", "0", "images, evenly spaced over the set; 0: all",
            store::Integer("count", 0, INT64_MAX, [&](int64_t n) { options.count = n; }));
  table.Add("short-side", "PIXELS", "0",
            "scale to this short side; 0: leave the images as they are",
            store::Integer("short-side", 0, 65535,
                           [&](int64_t n) { options.short_side = static_cast<int>(n); }));
  table.Add(
      "quality", "Q", "95", "of the JPEGs that are written anew, 1 to 100",
      store::Integer("quality", 1, 100, [&](int64_t n) { options.quality = static_cast<int>(n); }));
  table.Examples(
      "Example\n"
      "  convoy data pack /usr/share/datasets/fashion-mnist:train --output fashion.tar\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy data pack");
  RequireOneWord(arguments);
  if (output.empty()) throw Error(ExitCode::kUsage, "convoy data pack: --output is missing");
  Log log;
  const auto dataset = OpenDataset(arguments.location(), arguments.dataset, log);
  if (options.count == 0) options.count = dataset->size();
  if (options.count > dataset->size()) {
    throw Error(ExitCode::kUsage, fmt::format("--count {}: {} has {} images", options.count,
                                              arguments.location(), dataset->size()));
  }
  options.threads = arguments.workers;
  JobProgress progress(log, "images", options.count);
  PackNestedTar(*dataset, options, output, [&](int64_t done) { progress(done); });
  if (arguments.as_json) {
    std::cout << Json{{"output", output}, {"images", options.count}}.dump() << "\n";
  } else {
    fmt::print("{}: {} images\n", output, FormatCount(options.count));
  }
  return ExitCode::kDone;
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
                 "  pack    write JPEGs in the layout of ImageNet's training archive\n";
    return argc > 0 ? ExitCode::kDone : ExitCode::kUsage;
  }
  throw Error(ExitCode::kUsage, fmt::format("convoy data {}: there is no such command", what),
              "the commands are index, stats, verify and pack");
}

}  // namespace convoy
