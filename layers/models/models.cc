#include "layers/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "layers/analysis.h"
#include "layers/models/builders.h"

namespace convoy {
namespace {

using models::Defaults;

struct Entry {
  ModelInfo info;
  Defaults defaults;
  std::vector<LayerSpec> (*build)(const Shape& input, int classes);
};

const std::vector<Entry>& Catalogue() {
  static const std::vector<Entry> entries = {
      {{"alexnet2012", "the paper's network: two towers, LRN inside a tower"},
       {},
       models::AlexNet2012},
      {{"alexnet-half", "the one-GPU net that the paper compares with: half the kernels"},
       {},
       models::AlexNetHalf},
      {{"alexnet-grouped", "the paper's sizes on one device: groups of 2, LRN across them"},
       {},
       models::AlexNetGrouped},
      {{"alexnet-owt", "the single column of 'One weird trick', with LRN"}, {}, models::AlexNetOwt},
      {{"alexnet-torchvision", "torchvision's alexnet: the single column, no LRN"},
       {},
       models::AlexNetTorchvision},
      {{"alexnet-bn", "the two-tower network with batch norm in place of LRN"},
       {},
       models::AlexNetBn},
      {{"alexnet-fmnist", "AlexNet on Fashion-MNIST: one channel, no groups, no LRN"},
       {.input = 224, .channels = 1, .classes = 10},
       models::AlexNetFmnist},
      {{"lenet5", "LeNet-5: sigmoids and average pooling"},
       {.input = 28, .channels = 1, .classes = 10},
       models::LeNet5},
      {{"cifar10-quick", "Caffe's three-convolution net for CIFAR-10"},
       {.input = 32, .channels = 3, .classes = 10},
       models::Cifar10Quick},
  };
  return entries;
}

[[noreturn]] void ThrowOption(const std::string& option, const std::string& value,
                              const std::string& expected) {
  throw Error(ExitCode::kUsage, fmt::format("--{} {}: expected {}", option, value, expected));
}

// Returns "name" or "name:number".
std::pair<std::string, std::optional<double>> SplitNumber(const std::string& option,
                                                          const std::string& value,
                                                          const std::string& expected) {
  const size_t colon = value.find(':');
  if (colon == std::string::npos) return {value, std::nullopt};
  const auto number = ParseNumber(value.substr(colon + 1));
  if (!number) ThrowOption(option, value, expected);
  return {value.substr(0, colon), number};
}

Activation ParseActivation(const std::string& value) {
  const std::string expected = "relu, tanh, sigmoid, leaky-relu[:SLOPE] or elu[:ALPHA]";
  const auto [name, number] = SplitNumber("activation", value, expected);
  if (name == "leaky-relu") return {ActivationKind::kLeakyRelu, number.value_or(0.01)};
  if (name == "elu") return {ActivationKind::kElu, number.value_or(1.0)};
  if (!number && name == "relu") return {ActivationKind::kRelu};
  if (!number && name == "tanh") return {ActivationKind::kTanh};
  if (!number && name == "sigmoid") return {ActivationKind::kSigmoid};
  ThrowOption("activation", value, expected);
}

// "max3s2": kind, kernel, stride.
void ApplyPooling(const std::string& value, std::vector<LayerSpec>& layers) {
  const std::string expected = "max3s2, max2s2, avg3s2 or the like: kind, kernel, s, stride";
  const std::string kind = value.substr(0, 3);
  const size_t s = value.find('s');
  if ((kind != "max" && kind != "avg") || s == std::string::npos) {
    ThrowOption("pooling", value, expected);
  }
  const auto kernel = ParseInteger(value.substr(3, s - 3));
  const auto stride = ParseInteger(value.substr(s + 1));
  if (!kernel || !stride || *kernel < 1 || *stride < 1 || *kernel > 100 || *stride > 100) {
    ThrowOption("pooling", value, expected);
  }
  for (LayerSpec& layer : layers) {
    if (auto* pool = std::get_if<Pool>(&layer.layer)) {
      pool->kind = kind == "max" ? PoolKind::kMax : PoolKind::kAverage;
      pool->kernel = static_cast<int>(*kernel);
      pool->stride = static_cast<int>(*stride);
    }
  }
}

bool IsNorm(const LayerSpec& layer) {
  return std::holds_alternative<Lrn>(layer.layer) || std::holds_alternative<BatchNorm>(layer.layer);
}

// "alpha=1e-4,k=2": which numbers of the LRN layers change.
void SetLrnNumbers(const std::string& option, const std::string& numbers, Lrn& lrn) {
  const std::string expected =
      "lrn:KEY=NUMBER,.. with the keys alpha (as in the paper's text), alpha-over-size (as in the "
      "2012 code, Caffe and PyTorch), beta, k and size";
  for (const std::string& setting : Split(numbers, ',')) {
    const size_t equals = setting.find('=');
    const std::string key = setting.substr(0, equals);
    const auto number =
        equals == std::string::npos ? std::nullopt : ParseNumber(setting.substr(equals + 1));
    if (!number || *number < 0) ThrowOption("norm", option, expected);
    if (key == "alpha" || key == "alpha-over-size") {
      lrn.alpha = *number;
      lrn.alpha_use = key == "alpha" ? LrnAlpha::kAsIs : LrnAlpha::kDividedBySize;
    } else if (key == "beta") {
      lrn.beta = *number;
    } else if (key == "k") {
      lrn.k = *number;
    } else if (key == "size") {
      lrn.size = static_cast<int>(*number);
    } else {
      ThrowOption("norm", option, expected);
    }
  }
}

void ApplyNorm(const std::string& value, const std::string& model, std::vector<LayerSpec>& layers) {
  const size_t colon = value.find(':');
  const std::string kind = value.substr(0, colon);
  if ((kind != "lrn" && kind != "bn" && kind != "none") ||
      (kind != "lrn" && colon != std::string::npos)) {
    ThrowOption("norm", value, "lrn, lrn:KEY=NUMBER,.., bn or none");
  }
  if (std::none_of(layers.begin(), layers.end(), IsNorm)) {
    throw Error(ExitCode::kUsage,
                fmt::format("--norm {}: model {} has no normalisation to replace", value, model));
  }
  if (kind == "none") {
    std::erase_if(layers, IsNorm);
    return;
  }
  for (LayerSpec& layer : layers) {
    if (!IsNorm(layer)) continue;
    auto* lrn = std::get_if<Lrn>(&layer.layer);
    if (kind == "bn") {
      if (lrn != nullptr) layer.layer = BatchNorm{};
    } else if (lrn == nullptr) {
      throw Error(ExitCode::kUsage,
                  fmt::format("--norm {}: model {} normalises by batch norm, also where LRN has no "
                              "meaning",
                              value, model),
                  "take alexnet2012, which is the same network with LRN");
    } else if (colon != std::string::npos) {
      SetLrnNumbers(value, value.substr(colon + 1), *lrn);
    }
  }
}

void ApplyDropout(const std::string& value, std::vector<LayerSpec>& layers) {
  const std::string expected = "a rate in [0, 1), or 2012:RATE, or inverted:RATE";
  std::optional<DropoutForm> form;
  std::string rate_text = value;
  if (value.starts_with("2012:")) {
    form = DropoutForm::k2012;
    rate_text = value.substr(5);
  } else if (value.starts_with("inverted:")) {
    form = DropoutForm::kInverted;
    rate_text = value.substr(9);
  }
  const auto rate = ParseNumber(rate_text);
  if (!rate || *rate < 0 || *rate >= 1) ThrowOption("dropout", value, expected);
  if (*rate == 0) {
    std::erase_if(layers, [](const LayerSpec& layer) {
      return std::holds_alternative<Dropout>(layer.layer);
    });
    return;
  }
  for (LayerSpec& layer : layers) {
    if (auto* dropout = std::get_if<Dropout>(&layer.layer)) {
      dropout->rate = *rate;
      if (form) dropout->form = *form;
    }
  }
}

void ApplyInit(const std::string& value, std::vector<LayerSpec>& layers) {
  if (value != "paper" && value != "he" && value != "xavier" && value != "torch") {
    ThrowOption("init", value, "paper, he, xavier or torch");
  }
  const Init weight = value == "paper"    ? Init{InitKind::kGaussian, 0.01}
                      : value == "he"     ? Init{InitKind::kHe}
                      : value == "xavier" ? Init{InitKind::kXavier}
                                          : Init{InitKind::kFanInUniform};
  // The paper's text (section 5): biases of 1 in the second, fourth and fifth convolution and in
  // the hidden fully connected layers, 0 elsewhere.
  int convolutions = 0;
  const auto last_full = std::find_if(layers.rbegin(), layers.rend(), [](const LayerSpec& layer) {
    return std::holds_alternative<FullyConnected>(layer.layer);
  });
  for (LayerSpec& layer : layers) {
    bool bias_of_one = false;
    if (auto* conv = std::get_if<Convolution>(&layer.layer)) {
      ++convolutions;
      bias_of_one = convolutions == 2 || convolutions == 4 || convolutions == 5;
      conv->weight.init = weight;
      conv->bias.init = value == "torch" ? weight : Init{};
      if (value == "paper" && bias_of_one) conv->bias.init.value = 1;
    } else if (auto* fc = std::get_if<FullyConnected>(&layer.layer)) {
      bias_of_one = last_full != layers.rend() && &layer != &*last_full;
      fc->weight.init = weight;
      fc->bias.init = value == "torch" ? weight : Init{};
      if (value == "paper" && bias_of_one) fc->bias.init.value = 1;
    }
  }
}

}  // namespace

std::vector<ModelInfo> Models() {
  std::vector<ModelInfo> models;
  for (const Entry& entry : Catalogue()) models.push_back(entry.info);
  return models;
}

NetworkSpec MakeModel(const std::string& name, const ModelOptions& options) {
  const auto& catalogue = Catalogue();
  const auto entry = std::find_if(catalogue.begin(), catalogue.end(), [&](const Entry& candidate) {
    return candidate.info.name == name;
  });
  if (entry == catalogue.end()) {
    std::vector<std::string> names;
    for (const Entry& candidate : catalogue) names.push_back(candidate.info.name);
    const auto nearest = NearestName(name, names);
    throw Error(ExitCode::kUsage, fmt::format("--model {}: there is no such model", name),
                nearest ? fmt::format("did you mean {}?", *nearest)
                        : fmt::format("the models are {}", fmt::join(names, ", ")));
  }
  const int64_t size = options.input.value_or(entry->defaults.input);
  const int classes = options.classes.value_or(entry->defaults.classes);
  if (size < 1 || size > 4096) ThrowOption("input", std::to_string(size), "1 to 4096 pixels");
  if (classes < 1) ThrowOption("classes", std::to_string(classes), "at least 1");
  if (options.label_smoothing < 0 || options.label_smoothing >= 1) {
    ThrowOption("label-smoothing", fmt::format("{}", options.label_smoothing), "a value in [0, 1)");
  }

  NetworkSpec network{.name = name,
                      .input = Shape{size, size, entry->defaults.channels},
                      .classes = classes,
                      .layers = {}};
  network.layers = entry->build(network.input, classes);
  if (options.activation) {
    const Activation activation = ParseActivation(*options.activation);
    for (LayerSpec& layer : network.layers) {
      if (auto* current = std::get_if<Activation>(&layer.layer)) *current = activation;
    }
  }
  if (options.norm) ApplyNorm(*options.norm, name, network.layers);
  if (options.pooling) ApplyPooling(*options.pooling, network.layers);
  if (options.dropout) ApplyDropout(*options.dropout, network.layers);
  if (options.init) ApplyInit(*options.init, network.layers);
  std::get<SoftmaxCrossEntropy>(network.layers.back().layer).label_smoothing =
      options.label_smoothing;
  SitesOf(network);  // the overrides may not fit together
  return network;
}

}  // namespace convoy
