// convoy data verify and convoy data pack.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <optional>

#include <nlohmann/json.hpp>

#include "core/host/files.h"
#include "core/host/json_line.h"
#include "core/text.h"
#include "dataloader/packing.h"
#include "launch/command.h"
#include "launch/commands/data_commands.h"
#include "trainer/ranks/agreement.h"
#include "trainer/run/run_setup.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const std::vector<BadSample>& samples) {
  Json list = Json::array();
  for (const BadSample& sample : samples) {
    list.push_back(
        {{"name", sample.name}, {"location", sample.location}, {"reason", sample.reason}});
  }
  return list;
}

void PrintSamples(const char* what, const std::vector<BadSample>& samples) {
  for (const BadSample& sample : samples) {
    fmt::print("{}: {} ({}): {}\n", what, sample.name, sample.location, sample.reason);
  }
}

ExitCode Compare(const DataArguments& arguments, const std::string& source_location,
                 double tolerance, const Dataset& packed, Log& log) {
  const auto source = OpenDataset(source_location, arguments.dataset, log);
  JobProgress progress(log, "images", packed.size());
  const ComparisonReport report =
      CompareDatasets(packed, *source, tolerance, arguments.workers, std::ref(progress));
  if (arguments.as_json) {
    std::cout << JsonLine(Json{{"images", packed.size()},
                               {"same_bytes", report.same_bytes},
                               {"same_pixels", report.same_pixels},
                               {"scaled", report.scaled},
                               {"largest_mean_difference", report.largest_mean_difference},
                               {"different", ToJson(report.different)}})
              << "\n";
  } else {
    fmt::print(
        "{} images: {} with the same bytes, {} with the same pixels, {} scaled (mean colours "
        "within {:.2f} levels)\n",
        FormatCount(packed.size()), FormatCount(report.same_bytes), FormatCount(report.same_pixels),
        FormatCount(report.scaled), report.largest_mean_difference);
    // If it is another source, all of them differ.
    constexpr size_t kMostLines = 20;
    std::vector<BadSample> first = report.different;
    if (first.size() > kMostLines) first.resize(kMostLines);
    PrintSamples("different", first);
    fmt::print("{}\n",
               report.different.empty()
                   ? "every image is that of its source"
                   : fmt::format("{} differ", FormatCount(std::ssize(report.different), "image")));
  }
  return report.different.empty() ? ExitCode::kDone : ExitCode::kData;
}

ExitCode Verify(const DataArguments& arguments, const Dataset& dataset, int crop, Log& log) {
  JobProgress progress(log, "images", dataset.size());
  const VerifyReport report =
      VerifyDataset(dataset, 0, dataset.size(), crop, arguments.workers, std::ref(progress));
  if (arguments.as_json) {
    std::cout << JsonLine(Json{{"images", report.images},
                               {"bytes", report.bytes},
                               {"grey", report.grey},
                               {"cmyk", report.cmyk},
                               {"png", report.png},
                               {"progressive", report.progressive},
                               {"exif_rotated", report.exif_rotated},
                               {"small", report.small},
                               {"left_out", CountsOf(dataset.left_out())},
                               {"bad", ToJson(report.bad)}})
              << "\n";
  } else {
    fmt::print(
        "{} images, {}: {} grey, {} CMYK, {} PNG, {} progressive, {} with an EXIF rotation "
        "(ignored), {} smaller than the crop of {}\n",
        FormatCount(report.images), FormatBytes(static_cast<double>(report.bytes)), report.grey,
        report.cmyk, report.png, report.progressive, report.exif_rotated, report.small, crop);
    PrintSamples("bad", report.bad);
    fmt::print("{}\n", report.bad.empty() ? "no bad image"
                                          : fmt::format("{} bad images", report.bad.size()));
  }
  return report.bad.empty() ? ExitCode::kDone : ExitCode::kData;
}

enum class PackForm { kShards, kNested };

struct PackArguments {
  DataArguments data;
  ShardOptions options;
  PackForm form = PackForm::kShards;
  std::string output;
};

void AddPackOptions(OptionTable& table, PackArguments* arguments, WorldOptions* world) {
  PackOptions* images = &arguments->options.images;
  table.Group("Packing");
  table.Add("output", "PATH", "", "the folder of shards, or the nested tar, to write",
            store::Text(&arguments->output));
  table.Add("form", "FORM", "shards",
            "shards (WebDataset tars, written in parallel and gone on with), or nested (one tar of "
            "class tars, as ImageNet's)",
            store::Choice<PackForm>("form",
                                    {{"shards", PackForm::kShards}, {"nested", PackForm::kNested}},
                                    &arguments->form));
  table.Add("count", "N", "0", "images, evenly spaced over the set; 0: all",
            store::Integer("count", 0, INT64_MAX, [=](int64_t n) { images->count = n; }));
  table.Add("short-side", "PIXELS", "0",
            "scale to this short side; 0: leave the images as they are",
            store::Integer("short-side", 0, 65535,
                           [=](int64_t n) { images->short_side = static_cast<int>(n); }));
  table.Add(
      "quality", "Q", "95", "of the JPEGs that are written anew, 1 to 100",
      store::Integer("quality", 1, 100, [=](int64_t n) { images->quality = static_cast<int>(n); }));
  table.AddFlag("lossless",
                "drop metadata and fit Huffman tables where images are not scaled: the same "
                "pixels, checked one by one",
                &images->lossless);
  table.Add("shard-images", "N", "8192", "images of a shard",
            store::Integer("shard-images", 1, 1 << 30,
                           [=](int64_t n) { arguments->options.images_per_shard = n; }));
  table.Add("deadline", "SECONDS", "0", "give up a rank that is late by so much; 0: never",
            store::Number("deadline", 0, 1e9, [=](double s) { world->deadline_s = s; }));
  table.Examples(
      "Examples\n"
      "  convoy data pack /data/ILSVRC2012_img_train.tar --short-side 256 --quality 90 \\\n"
      "      --output /data/train-256 -j 16\n"
      "  launch/convoyrun -n 8 data pack ...      the same, by several processes\n"
      "  convoy data verify /data/train-256 --against /data/ILSVRC2012_img_train.tar\n");
}

void PrintPacked(const PackArguments& arguments, const ShardReport& report) {
  if (arguments.data.as_json) {
    std::cout << JsonLine(Json{{"output", arguments.output},
                               {"images", arguments.options.images.count},
                               {"shards", report.shards},
                               {"kept", report.kept},
                               {"written_images", report.images},
                               {"written_bytes", report.bytes}})
              << "\n";
    return;
  }
  fmt::print("{}: {} images in {}", arguments.output, FormatCount(arguments.options.images.count),
             FormatCount(report.shards, "shard"));
  if (report.kept > 0) fmt::print(", {} of them there before", report.kept);
  if (report.images > 0) {
    fmt::print("; {} written, {} an image", FormatBytes(static_cast<double>(report.bytes)),
               FormatBytes(static_cast<double>(report.bytes) / static_cast<double>(report.images)));
  }
  fmt::print("\n");
}

void PackIntoShards(PackArguments& arguments, const Dataset& dataset, World& world, Log& log) {
  ShardOptions& options = arguments.options;
  options.part = world.rank();
  options.parts = world.size();
  std::optional<FolderLock> lock;
  RunTogether(world, [&] {
    if (world.rank() != 0) return;
    const std::string settings = DescribeShards(dataset, options);
    MakeFolder(arguments.output);
    lock.emplace(arguments.output);
    if (!lock->warning().empty()) log.Warning("{}", lock->warning());
    PrepareShards(dataset, settings, arguments.output);
  });
  ShardReport report;
  RunTogether(world, [&] {
    JobProgress progress(log, world.size() > 1 ? "images of rank 0:" : "images",
                         MissingImages(options, arguments.output));
    report = PackShards(dataset, options, arguments.output, [&](int64_t done) {
      if (world.rank() == 0) progress(done);
    });
    for (const BadSample& bad : report.bad) {
      log.Warning("{} ({}) is copied as it is: {}", bad.name, bad.location, bad.reason);
    }
  });
  int64_t sums[] = {report.shards, report.kept, report.images, report.bytes};
  HostStream stream;
  world.all()
      .AllReduce(stream, {sums, DType::kInt64, Shape{std::ssize(sums)}}, ReduceOp::kSum, "pack")
      .Wait(stream);
  report.shards = sums[0];
  report.kept = sums[1];
  report.images = sums[2];
  report.bytes = sums[3];
  if (world.rank() == 0) PrintPacked(arguments, report);
}

void PackIntoNestedTar(const PackArguments& arguments, const Dataset& dataset, Log& log) {
  const PackOptions& images = arguments.options.images;
  JobProgress progress(log, "images", images.count);
  PackNestedTar(dataset, images, arguments.output, std::ref(progress));
  if (arguments.data.as_json) {
    std::cout << JsonLine(Json{{"output", arguments.output}, {"images", images.count}}) << "\n";
  } else {
    fmt::print("{}: {} images\n", arguments.output, FormatCount(images.count));
  }
}

}  // namespace

ExitCode VerifyCommand(int argc, const char* const* argv) {
  DataArguments arguments;
  std::string source;
  double tolerance = 2;
  int crop = 224;
  OptionTable table("convoy data verify",
                    "decode every image, name the bad ones and count the odd; or hold a packed "
                    "data set against its source");
  AddDataArguments(table, &arguments);
  table.Add("input", "PIXELS", "224",
            "as in convoy train: the crop, for the count of images that are smaller",
            store::Integer("input", 1, 65536, [&](int64_t n) { crop = static_cast<int>(n); }));
  table.Add("against", "DATA", "", "the data set that this one was packed from",
            store::Text(&source));
  table.Add("tolerance", "LEVELS", "2",
            "by which the mean colour of a scaled image may differ from its source's",
            store::Number("tolerance", 0, 255, [&](double levels) { tolerance = levels; }));
  table.Examples(
      "Examples\n"
      "  convoy data verify photos.tar:train -j 8\n"
      "  convoy data verify /data/train-256 --against /data/ILSVRC2012_img_train.tar -j 8\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy data verify");
  RequireOneWord(arguments);
  Log log;
  const auto dataset = OpenDataset(arguments.location(), arguments.dataset, log);
  return source.empty() ? Verify(arguments, *dataset, crop, log)
                        : Compare(arguments, source, tolerance, *dataset, log);
}

ExitCode PackCommand(int argc, const char* const* argv) {
  PackArguments arguments;
  WorldOptions world_options;
  OptionTable table("convoy data pack",
                    "write a data set anew: smaller, without metadata, or as plain shards");
  AddDataArguments(table, &arguments.data);
  AddPackOptions(table, &arguments, &world_options);
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneWord(arguments.data);
  if (arguments.output.empty()) {
    throw Error(ExitCode::kUsage, "convoy data pack: --output is missing");
  }
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log& log) {
    const DataConfig config{.devkit = arguments.data.dataset.devkit,
                            .index_folder = arguments.data.dataset.index_folder};
    const auto dataset = OpenTogether(arguments.data.location(), config, world, log);
    RunTogether(world, [&] {
      RequireOtherThanSource(*dataset, arguments.data.location(), config.devkit, arguments.output);
    });
    PackOptions& images = arguments.options.images;
    if (images.count == 0) images.count = dataset->size();
    RunTogether(world, [&] {
      if (images.count > dataset->size()) {
        throw Error(ExitCode::kUsage, fmt::format("--count {}: {} has {} images", images.count,
                                                  arguments.data.location(), dataset->size()));
      }
      if (arguments.form == PackForm::kNested && world.size() > 1) {
        throw Error(ExitCode::kUsage, "--form nested is written by one rank",
                    "shards are written by several");
      }
    });
    images.threads = arguments.data.workers;
    if (arguments.form == PackForm::kShards) {
      PackIntoShards(arguments, *dataset, world, log);
    } else {
      PackIntoNestedTar(arguments, *dataset, log);
    }
    return ExitCode::kDone;
  });
}

}  // namespace convoy
