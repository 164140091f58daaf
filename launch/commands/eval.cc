#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "core/host/json_line.h"
#include "core/text.h"
#include "dataloader/bad_samples.h"
#include "launch/command.h"
#include "launch/options/run_options.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

// The pairs of classes that are taken for each other most, largest first.
struct Confusion {
  size_t label, prediction;
  int64_t count;
};
std::vector<Confusion> WorstConfusions(const EvaluationResult& result, size_t most) {
  std::vector<Confusion> pairs;
  for (size_t label = 0; label < result.confusion.size(); ++label) {
    for (size_t prediction = 0; prediction < result.confusion.size(); ++prediction) {
      const int64_t count = result.confusion[label][prediction];
      if (label != prediction && count > 0) pairs.push_back({label, prediction, count});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Confusion& a, const Confusion& b) { return a.count > b.count; });
  if (pairs.size() > most) pairs.resize(most);
  return pairs;
}

std::string ClassName(const EvaluationResult& result, size_t index) {
  return index < result.classes.size() ? result.classes[index] : std::to_string(index);
}

void PrintResult(const EvaluationResult& result) {
  fmt::print(
      "{} images{}, {} view{}: top-1 {:.2f} %, top-5 {:.2f} % (errors {:.2f} / {:.2f}), loss "
      "{:.4f}\n",
      FormatCount(result.images), DescribeLeftOut(result.left_out), result.views,
      result.views == 1 ? "" : "s", result.top1, result.top5, 100 - result.top1, 100 - result.top5,
      result.loss);
  if (result.confusion.empty()) return;
  fmt::print("\n{:<20}{:>8}{:>10}\n", "class", "images", "top-1 %");
  for (size_t label = 0; label < result.confusion.size(); ++label) {
    int64_t images = 0;
    for (int64_t count : result.confusion[label]) images += count;
    if (images == 0) continue;
    fmt::print(
        "{:<20}{:>8}{:>10.1f}\n", ClassName(result, label), images,
        100.0 * static_cast<double>(result.confusion[label][label]) / static_cast<double>(images));
  }
  fmt::print("\ntaken for each other most:\n");
  for (const Confusion& pair : WorstConfusions(result, 20)) {
    fmt::print("  {:<20}as {:<20}{:>6}\n", ClassName(result, pair.label),
               ClassName(result, pair.prediction), pair.count);
  }
}

Json ToJson(const EvaluationResult& result) {
  Json json = {{"images", result.images}, {"left_out", result.left_out}, {"views", result.views},
               {"loss", result.loss},     {"top1", result.top1},         {"top5", result.top5}};
  if (!result.confusion.empty()) {
    json["classes"] = result.classes;
    json["confusion"] = result.confusion;
  }
  return json;
}

}  // namespace

ExitCode EvalCommand(int argc, const char* const* argv) {
  EvaluateConfig config;
  WorldOptions world_options;
  bool as_json = false;
  OptionTable table("convoy eval",
                    "top-1, top-5 and loss of a checkpoint, or of several as an ensemble");
  table.Positional("CHECKPOINT...", "safetensors files; the probabilities of several are averaged",
                   1, &config.checkpoints);
  table.Group("Evaluation");
  table.Add("data", "DATA", "", "validation images, in any form that convoy train takes",
            store::Text(&config.data));
  AddValSplitOption(table, "evaluate only the share of --data that a training held out",
                    &config.val_split);
  table.Add("batch-size,b", "N", "64", "images at a time over all ranks",
            store::Integer("batch-size", 1, 1 << 20, [&](int64_t n) { config.batch_size = n; }));
  table.Add("views", "1|10", "1", "the centre, or corners and centre with their mirror images",
            store::Choice<int>("views", {{"1", 1}, {"10", 10}}, &config.views));
  table.AddFlag("confusion", "accuracy by class, and which classes are taken for each other",
                &config.confusion);
  table.AddFlag("json", "one JSON object", &as_json);
  AddDataOptions(table, &config.loading, ImagesFor::kCheckpoint);
  AddComputeOptions(table, &config.compute, &world_options);
  table.Examples(
      "Example\n"
      "  convoy eval runs/default/checkpoints/best.safetensors --data photos.tar:val --views 10\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  if (config.data.empty()) throw Error(ExitCode::kUsage, "convoy eval: --data is missing");
  if (table.Given("geometry")) config.geometry = config.loading.geometry;
  if (table.Given("resize")) config.resize = config.loading.resize;
  return RunOnAllRanks(table.Asked(), world_options, "", [&](World& world, Log& log) {
    const EvaluationResult result = Evaluate(config, world, log);
    if (world.rank() != 0) return ExitCode::kDone;
    if (as_json) {
      std::cout << JsonLine(ToJson(result)) << "\n";
    } else {
      PrintResult(result);
    }
    return ExitCode::kDone;
  });
}

ExitCode PredictCommand(int argc, const char* const* argv) {
  EvaluateConfig config;
  WorldOptions world_options;
  std::vector<std::string> words;
  std::string checkpoint;
  int top = 5;
  bool as_json = false;
  OptionTable table("convoy predict", "the most probable classes of image files");
  table.Positional("IMAGE...", "image files, or folders of them", 1, &words);
  table.Group("Prediction");
  table.Add("checkpoint", "FILE", "", "the trained network", store::Text(&checkpoint));
  table.Add("top", "N", "5", "classes to name",
            store::Integer("top", 1, 1 << 20, [&](int64_t n) { top = static_cast<int>(n); }));
  table.Add("batch-size,b", "N", "16", "images at a time",
            store::Integer("batch-size", 1, 1 << 20, [&](int64_t n) { config.batch_size = n; }));
  table.Add("views", "1|10", "1", "the centre, or corners and centre with their mirror images",
            store::Choice<int>("views", {{"1", 1}, {"10", 10}}, &config.views));
  table.AddFlag("json", "one JSON object", &as_json);
  AddComputeOptions(table, &config.compute, &world_options);
  table.Examples("Example\n  convoy predict --checkpoint best.safetensors cat.jpg holiday/\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy predict");
  if (checkpoint.empty()) {
    throw Error(ExitCode::kUsage, "convoy predict: --checkpoint is missing");
  }
  config.checkpoints = {checkpoint};
  Log log;
  const std::vector<Prediction> predictions = Predict(config, words, top, log);
  Json json = Json::array();
  for (const Prediction& prediction : predictions) {
    Json candidates = Json::array();
    std::string line;
    for (const auto& [name, probability] : prediction.candidates) {
      candidates.push_back({{"class", name}, {"probability", probability}});
      line += fmt::format("  {} {:.1f} %", name, 100 * probability);
    }
    if (as_json) {
      json.push_back({{"image", prediction.image}, {"candidates", candidates}});
      if (!prediction.fault.empty()) json.back()["fault"] = prediction.fault;
    } else {
      fmt::print("{}{}\n", prediction.image,
                 prediction.fault.empty() ? line : "  cannot be decoded: " + prediction.fault);
    }
  }
  if (as_json) std::cout << JsonLine(Json{{"predictions", json}}) << "\n";
  const bool any_fault = std::any_of(predictions.begin(), predictions.end(),
                                     [](const Prediction& p) { return !p.fault.empty(); });
  return any_fault ? ExitCode::kData : ExitCode::kDone;
}

}  // namespace convoy
