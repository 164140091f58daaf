// The metadata of a checkpoint: to and from JSON, and comparison.
#include "trainer/checkpoint/info.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layers/update_rules.h"

namespace convoy {
namespace {

using nlohmann::json;

constexpr const char* kKey = "convoy";
constexpr int kFormat = 1;

template <typename T>
void Put(json& object, const char* key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}

template <typename T>
void Take(const json& object, const char* key, std::optional<T>& value) {
  if (object.contains(key)) value = object.at(key).get<T>();
}

json ToJson(const ModelOptions& options) {
  json object = json::object();
  Put(object, "classes", options.classes);
  Put(object, "input", options.input);
  Put(object, "activation", options.activation);
  Put(object, "norm", options.norm);
  Put(object, "pooling", options.pooling);
  Put(object, "dropout", options.dropout);
  Put(object, "init", options.init);
  object["label_smoothing"] = options.label_smoothing;
  return object;
}

ModelOptions ModelOptionsFrom(const json& object) {
  ModelOptions options;
  Take(object, "classes", options.classes);
  Take(object, "input", options.input);
  Take(object, "activation", options.activation);
  Take(object, "norm", options.norm);
  Take(object, "pooling", options.pooling);
  Take(object, "dropout", options.dropout);
  Take(object, "init", options.init);
  options.label_smoothing = object.at("label_smoothing").get<double>();
  return options;
}

}  // namespace

std::map<std::string, std::string> MetadataOf(const CheckpointInfo& info) {
  const json object = {{"format", kFormat},
                       {"version", info.version},
                       {"model", info.model},
                       {"options", ToJson(info.options)},
                       {"classes", info.classes},
                       {"geometry", info.geometry},
                       {"resize", info.resize},
                       {"step", info.step},
                       {"epoch", info.epoch},
                       {"batch", info.batch},
                       {"global_batch", info.global_batch},
                       {"seed", info.seed},
                       {"samples", info.samples},
                       {"evaluations", info.evaluations},
                       {"evaluation_due", info.evaluation_due},
                       {"rule", info.rule},
                       {"updates", info.updates},
                       {"platform", info.platform},
                       {"kernel_choices", info.kernel_choices},
                       {"ranks", info.ranks},
                       {"replicas", info.replicas},
                       {"fc_shards", info.fc_shards},
                       {"towers", info.towers},
                       {"dtype", info.dtype}};
  return {{"format", "pt"}, {kKey, object.dump()}, {"convoy.settings", info.settings}};
}

void RequireUtf8(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    try {
      static_cast<void>(json(name).dump());
    } catch (const json::exception&) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: not UTF-8, so that no checkpoint can hold it",
                              json(name).dump(-1, ' ', true, json::error_handler_t::replace)),
                  "rename the class folder or path");
    }
  }
}

CheckpointInfo InfoFrom(const std::map<std::string, std::string>& metadata,
                        const std::string& path) {
  const auto found = metadata.find(kKey);
  if (found == metadata.end()) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: a safetensors file, but not a checkpoint of Convoy", path));
  }
  try {
    const json object = json::parse(found->second);
    const int format = object.at("format").get<int>();
    if (format != kFormat) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("{}: checkpoint format {}, expected {}", path, format, kFormat),
                  "use the version of Convoy that wrote it");
    }
    CheckpointInfo info;
    info.version = object.at("version").get<std::string>();
    info.model = object.at("model").get<std::string>();
    info.options = ModelOptionsFrom(object.at("options"));
    info.classes = object.at("classes").get<std::vector<std::string>>();
    info.geometry = object.at("geometry").get<std::string>();
    info.resize = object.at("resize").get<int>();
    info.step = object.at("step").get<int64_t>();
    info.epoch = object.at("epoch").get<int64_t>();
    info.batch = object.at("batch").get<int64_t>();
    info.global_batch = object.at("global_batch").get<int64_t>();
    info.seed = object.at("seed").get<uint64_t>();
    info.samples = object.at("samples").get<int64_t>();
    info.evaluations = object.at("evaluations").get<std::vector<double>>();
    info.evaluation_due = object.at("evaluation_due").get<bool>();
    info.rule = object.at("rule").get<std::string>();
    if (info.rule == "torch") info.rule = NameOf(UpdateRule(SgdRule{}));  // its former name
    // Checkpoints of before there were rules that count have none.
    info.updates = object.value("updates", std::map<std::string, int64_t>());
    // Checkpoints of before the CUDA backend have neither.
    info.platform = object.value("platform", std::string());
    info.kernel_choices = object.value("kernel_choices", KernelChoices());
    info.ranks = object.at("ranks").get<int>();
    info.replicas = object.at("replicas").get<int>();
    // Files of earlier versions have no shards.
    info.fc_shards = object.value("fc_shards", 1);
    info.towers = object.at("towers").get<int>();
    info.dtype = object.at("dtype").get<std::string>();
    if (const auto settings = metadata.find("convoy.settings"); settings != metadata.end()) {
      info.settings = settings->second;
    }
    return info;
  } catch (const json::exception& exception) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: its metadata is incomplete ({})", path, exception.what()));
  }
}

std::vector<std::string> DifferencesThatForbidResume(const CheckpointInfo& saved,
                                                     const CheckpointInfo& current) {
  std::vector<std::string> differences;
  const auto compare = [&](const std::string& what, const auto& was, const auto& is) {
    if (was != is) {
      differences.push_back(fmt::format("{}: {} in the checkpoint, {} in this run", what, was, is));
    }
  };
  compare("model", saved.model, current.model);
  const json was = ToJson(saved.options), is = ToJson(current.options);
  for (const char* key : {"classes", "input", "activation", "norm", "pooling", "dropout", "init",
                          "label_smoothing"}) {
    const auto text = [&](const json& object) {
      return object.contains(key) ? object.at(key).dump() : std::string("the model's own");
    };
    compare(key, text(was), text(is));
  }
  compare("training images", saved.samples, current.samples);
  if (saved.classes != current.classes) differences.emplace_back("the classes' names differ");
  compare("seed", saved.seed, current.seed);
  compare("optimizer", saved.rule, current.rule);
  compare("geometry", saved.geometry, current.geometry);
  compare("resize", saved.resize, current.resize);
  return differences;
}

}  // namespace convoy
