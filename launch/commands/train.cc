#include <fmt/format.h>

#include <cmath>
#include <iostream>

#include "core/host/signal_thread.h"
#include "core/text.h"
#include "launch/command.h"
#include "launch/options/optimizer_options.h"
#include "launch/options/run_options.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

// Of a mean or deviation, far beyond what pixels have: what is larger would become infinite.
constexpr double kMostOfAPixel = 1e6;

// "image", "channel", "none", or numbers with commas.
OptionTable::Store MeanStore(RunConfig* config) {
  return [config](const std::string& value) {
    config->mean_values.clear();
    if (value == "image") {
      config->mean = MeanKind::kImage;
    } else if (value == "channel") {
      config->mean = MeanKind::kChannel;
    } else if (value == "none") {
      config->mean = MeanKind::kNone;
    } else {
      config->mean = MeanKind::kValues;
      for (const std::string& part : Split(value, ',')) {
        const auto number = ParseNumber(part);
        if (!number || std::abs(*number) > kMostOfAPixel) {
          throw Error(ExitCode::kUsage,
                      fmt::format("--mean {}: expected image, channel, none or one number per "
                                  "channel, as 123.7,116.8,103.9",
                                  value));
        }
        config->mean_values.push_back(static_cast<float>(*number));
      }
    }
  };
}

OptionTable::Store DeviationStore(RunConfig* config) {
  return [config](const std::string& value) {
    config->standard_deviation.clear();
    if (value == "1") return;
    for (const std::string& part : Split(value, ',')) {
      const auto number = ParseNumber(part);
      if (!number || *number < 1 / kMostOfAPixel || *number > kMostOfAPixel) {
        throw Error(ExitCode::kUsage,
                    fmt::format("--std {}: expected one number from {} to {} per channel", value,
                                1 / kMostOfAPixel, kMostOfAPixel));
      }
      config->standard_deviation.push_back(static_cast<float>(*number));
    }
  };
}

void AddLearningOptions(OptionTable& table, RunConfig* config) {
  table.Group("Learning");
  table.Add("epochs", "N", "90", "passes over the training images",
            store::Integer("epochs", 1, (1 << 20) - 1,
                           [=](int64_t n) { config->epochs = static_cast<int>(n); }));
  table.Add("steps", "N", "", "end after so many steps, if that is sooner",
            store::Integer("steps", 1, INT64_MAX, [=](int64_t n) { config->steps = n; }));
  table.Add("batch-size,b", "N", "128", "images of a step over all ranks",
            store::Integer("batch-size", 1, 1 << 24, [=](int64_t n) { config->batch_size = n; }));
  table.Add("accumulate", "M", "1",
            "compute the batch in M parts one after another, whose gradients add up: a batch that "
            "memory does not hold at once",
            store::Integer("accumulate", 1, 1 << 20,
                           [=](int64_t n) { config->accumulate = static_cast<int>(n); }));
  AddOptimizerOptions(table, &config->optimizer);
  table.Add("seed", "N", "0", "of weights, order, crops, colour and dropout",
            store::Integer("seed", 0, INT64_MAX,
                           [=](int64_t n) { config->seed = static_cast<uint64_t>(n); }));
}

void AddAugmentationOptions(OptionTable& table, RunConfig* config) {
  table.Group("Augmentation");
  table.Add("augment", "on|off", "on", "random place and mirror of the crops",
            store::Switch("augment", &config->augment));
  AddDrawOptions(table, &config->loading);
  table.Add("colour", "KIND", "2012", "PCA colour: 2012, lighting (weaker) or none",
            store::Choice<ColourNoise>("colour",
                                       {{"2012", ColourNoise::k2012},
                                        {"lighting", ColourNoise::kLighting},
                                        {"none", ColourNoise::kNone}},
                                       &config->colour));
  table.Add(
      "colour-strength", "S", "0.1", "standard deviation of its draw",
      store::Number("colour-strength", 0, 1e3, [=](double s) { config->colour_strength = s; }));
  table.Add("colour-scheduler", "SCHEDULE", "constant", "its change over time, as --lr-scheduler",
            ScheduleStore("colour-scheduler", &config->colour_scheduler));
  table.Add("mean", "KIND", "image",
            "what is subtracted: image (mean image), channel, none, one number, or one per channel",
            MeanStore(config));
  table.Add("std", "NUMBERS", "1",
            "what pixels are divided by then: one number, or one per channel",
            DeviationStore(config));
}

void AddOutputOptions(OptionTable& table, RunConfig* config) {
  table.Group("Output");
  table.Add("output-dir", "PATH", "runs/default", "the only folder that the run writes into",
            store::Text(&config->output_dir));
  table.Add(
      "resume", "FROM", "auto",
      "auto (the newest checkpoint of the folder), none (a fresh run; an earlier one is moved "
      "aside), or a checkpoint",
      store::Text(&config->resume));
  table.NotASetting();
  table.Add("checkpoint-every", "STEPS", "0", "besides the end of every epoch; 0: not",
            store::Integer("checkpoint-every", 0, INT64_MAX,
                           [=](int64_t n) { config->checkpoint_every = n; }));
  table.Add("check-replicas", "STEPS", "0",
            "ranks that hold the same weights compare them so often, and before each checkpoint; "
            "a rank that differs is named and ends the run with 7; 0: never",
            store::Integer("check-replicas", 0, INT64_MAX,
                           [=](int64_t n) { config->check_replicas = n; }));
  table.Add(
      "keep", "N", "2", "checkpoints to keep, besides the best",
      store::Integer("keep", 1, 1 << 20, [=](int64_t n) { config->keep = static_cast<int>(n); }));
  table.Add("eval-every", "EPOCHS", "1", "evaluate on --val or --val-split so often; 0: never",
            store::Integer("eval-every", 0, 1 << 20,
                           [=](int64_t n) { config->eval_every = static_cast<int>(n); }));
  table.Add("views", "1|10", "1", "views of an image in evaluation: its centre, or ten",
            store::Choice<int>("views", {{"1", 1}, {"10", 10}}, &config->views));
  table.Add("print-freq,p", "STEPS", "20", "a line in a log so often",
            store::Integer("print-freq", 1, INT64_MAX, [=](int64_t n) { config->print_freq = n; }));
  table.Group("Reduction of gradients and update");
  table.Add("overlap", "on|off", "on", "reduce while backward goes on",
            store::Choice<Overlap>("overlap", {{"on", Overlap::kOn}, {"off", Overlap::kOff}},
                                   &config->overlap));
  table.Add(
      "reduce-dtype", "TYPE", "fp32", "of gradients on the wire: fp32 or bf16",
      store::Choice<DType>("reduce-dtype", {{"fp32", DType::kFloat32}, {"bf16", DType::kBFloat16}},
                           &config->reduce_dtype));
  table.Add(
      "shard-update", "auto|on|off", "auto",
      "each rank updates a part of the parameters that others hold too, and keeps the "
      "optimiser's states of only this part; auto: between ranks of one host that compute on "
      "CPUs, where it is faster, and not under --check-replicas",
      store::Choice<ShardUpdate>(
          "shard-update",
          {{"auto", ShardUpdate::kAuto}, {"on", ShardUpdate::kOn}, {"off", ShardUpdate::kOff}},
          &config->shard_update));
}

}  // namespace

ExitCode TrainCommand(int argc, const char* const* argv) {
  RunConfig config;
  WorldOptions world_options;
  OptionTable table("convoy train", "train a network, on one rank or many");
  table.Group("Data");
  table.Add("data", "DATA", "",
            "training images: a folder of class folders, a tar (flat, or of class tars as "
            "ImageNet's), packed shards, IDX, CIFAR, or synthetic:N; PATH:SPLIT picks a split",
            store::Text(&config.data));
  table.Add("val", "DATA", "", "validation images, evaluated as training goes on",
            store::Text(&config.validation));
  AddValSplitOption(table, "share of the training images that is held out for validation",
                    &config.val_split);
  AddModelOptions(table, &config.model, &config.model_options);
  AddLearningOptions(table, &config);
  AddAugmentationOptions(table, &config);
  AddDataOptions(table, &config.loading);
  AddComputeOptions(table, &config.compute, &world_options);
  AddOutputOptions(table, &config);
  table.Group("Files of settings");
  bool print_config = false;
  table.AddFlag("print-config", "print the settings as config.cfg would hold them, and end",
                &print_config);
  table.NotASetting();
  table.AcceptFiles();
  table.Examples(
      "Examples\n"
      "  convoy train --data synthetic:1000 --steps 10\n"
      "  convoy train --data /data/ILSVRC2012_img_train.tar --val /data/ILSVRC2012_img_val.tar \\\n"
      "      --devkit /data/ILSVRC2012_devkit_t12.tar.gz --recipe alexnet2012\n"
      "  launch/convoyrun -n 2 train --towers 2 ...      the paper's two towers on two ranks\n"
      "  launch/convoyrun -n 8 train --towers 2 ...      four replicas of them\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  ShowOptimizerDefaults(table, config.optimizer);
  config.settings = table.Resolved();
  if (print_config) {
    if (RankBeforeMpi() == 0) std::cout << config.settings;
    return ExitCode::kDone;
  }
  if (config.data.empty()) {
    throw Error(ExitCode::kUsage, "convoy train: --data is missing",
                "give a data set, or --data synthetic:1000 to try it out");
  }
  if (config.output_dir.empty()) {
    throw Error(ExitCode::kUsage, "convoy train: --output-dir is empty", "name a folder");
  }
  if (config.val_split > 0 && !config.validation.empty()) {
    throw Error(ExitCode::kUsage,
                fmt::format("convoy train: --val-split {} and --val {} name two validation sets",
                            config.val_split, config.validation),
                "give one of the two");
  }
  // Before MPI and OpenMP start threads.
  const SignalThread signals;
  // A start that is refused leaves no record in the folder of an earlier run.
  std::string record_folder;
  return RunOnAllRanks(table.Asked(), world_options, record_folder, [&](World& world, Log& log) {
    const TrainingResult result =
        Train(config, world, log, [&] { record_folder = config.output_dir; });
    return result.end == TrainingEnd::kInterrupted ? ExitCode::kInterrupted : ExitCode::kDone;
  });
}

}  // namespace convoy
