#include "layers/analysis.h"

#include <algorithm>

#include "core/error.h"

namespace convoy {
namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

[[noreturn]] void ThrowShape(const LayerSpec& layer, const Shape& input, const std::string& what) {
  throw Error(ExitCode::kUsage,
              fmt::format("layer {} ({}) cannot read {}: {}", layer.name, KindOf(layer.layer),
                          input.ToString(), what),
              "choose another --input size or model");
}

void RequireImage(const LayerSpec& layer, const Shape& input) {
  if (input.rank() != 3) ThrowShape(layer, input, "expected an image [H,W,C]");
}

int64_t WindowCount(int64_t size, int before, int after, int kernel, int stride,
                    Rounding rounding) {
  const int64_t span = size + before + after - kernel;
  if (span < 0) return 0;
  int64_t count = (rounding == Rounding::kFloor ? span : span + stride - 1) / stride + 1;
  // As Caffe and PyTorch: the last window must start inside the image or the padding before it.
  if (rounding == Rounding::kCeil && (count - 1) * stride >= size + before) --count;
  return count;
}

Shape WindowedShape(const LayerSpec& layer, const Shape& input, const Padding& padding, int kernel,
                    int stride, Rounding rounding, int64_t channels) {
  RequireImage(layer, input);
  if (kernel < 1 || stride < 1) ThrowShape(layer, input, "kernel and stride must be at least 1");
  const int64_t height =
      WindowCount(input[0], padding.top, padding.bottom, kernel, stride, rounding);
  const int64_t width =
      WindowCount(input[1], padding.left, padding.right, kernel, stride, rounding);
  if (height < 1 || width < 1) {
    ThrowShape(layer, input, fmt::format("the {0} x {0} kernel is larger than it", kernel));
  }
  return Shape{height, width, channels};
}

}  // namespace

std::string KindOf(const Layer& layer) {
  return std::visit(
      Overloaded{[](const Convolution&) -> std::string { return "conv"; },
                 [](const FullyConnected&) -> std::string { return "fc"; },
                 [](const Activation& activation) -> std::string {
                   switch (activation.kind) {
                     case ActivationKind::kRelu:
                       return "relu";
                     case ActivationKind::kTanh:
                       return "tanh";
                     case ActivationKind::kSigmoid:
                       return "sigmoid";
                     case ActivationKind::kLeakyRelu:
                       return "leaky-relu";
                     case ActivationKind::kElu:
                       return "elu";
                   }
                   return "activation";
                 },
                 [](const Lrn&) -> std::string { return "lrn"; },
                 [](const BatchNorm&) -> std::string { return "bn"; },
                 [](const Pool& pool) -> std::string {
                   return pool.kind == PoolKind::kMax ? "max-pool" : "average-pool";
                 },
                 [](const AdaptiveAveragePool&) -> std::string { return "adaptive-pool"; },
                 [](const Dropout&) -> std::string { return "dropout"; },
                 [](const SoftmaxCrossEntropy&) -> std::string { return "softmax-loss"; }},
      layer);
}

Shape OutputShape(const LayerSpec& layer, const Shape& input) {
  return std::visit(
      Overloaded{[&](const Convolution& conv) {
                   RequireImage(layer, input);
                   if (conv.groups < 1 || input[2] % conv.groups != 0 ||
                       conv.out_channels % conv.groups != 0) {
                     ThrowShape(layer, input,
                                fmt::format("{} groups must divide {} input and {} output channels",
                                            conv.groups, input[2], conv.out_channels));
                   }
                   return WindowedShape(layer, input, conv.padding, conv.kernel, conv.stride,
                                        Rounding::kFloor, conv.out_channels);
                 },
                 [&](const FullyConnected& fc) { return Shape{fc.out_features}; },
                 [&](const Activation&) { return input; },
                 [&](const Lrn& lrn) {
                   RequireImage(layer, input);
                   if (lrn.size < 1 || lrn.size % 2 == 0)
                     ThrowShape(layer, input, "size must be odd");
                   if (lrn.groups < 1 || input[2] % lrn.groups != 0) {
                     ThrowShape(layer, input,
                                fmt::format("{} groups must divide its channels", lrn.groups));
                   }
                   return input;
                 },
                 [&](const BatchNorm&) { return input; },
                 [&](const Pool& pool) {
                   return WindowedShape(layer, input, pool.padding, pool.kernel, pool.stride,
                                        pool.rounding, input.back());
                 },
                 [&](const AdaptiveAveragePool& pool) {
                   RequireImage(layer, input);
                   return Shape{pool.out_size, pool.out_size, input[2]};
                 },
                 [&](const Dropout&) { return input; },
                 [&](const SoftmaxCrossEntropy&) {
                   if (input.rank() != 1) ThrowShape(layer, input, "expected flat features [F]");
                   return input;
                 }},
      layer.layer);
}

std::vector<ParameterInfo> ParametersOf(const LayerSpec& layer, const Shape& input) {
  std::vector<ParameterInfo> parameters;
  const auto add = [&](ParameterRole role, const Shape& shape, const ParameterSpec& spec,
                       int64_t fan_in, int64_t fan_out) {
    const char* kind = role == ParameterRole::kWeight ? "weight" : "bias";
    parameters.push_back({layer.name + "." + kind, role, shape, spec, fan_in, fan_out});
  };
  std::visit(
      Overloaded{
          [&](const Convolution& conv) {
            const int64_t area = int64_t{conv.kernel} * conv.kernel;
            const int64_t in = input[2] / conv.groups;
            const int64_t fan_in = area * in;
            const int64_t fan_out = area * conv.out_channels / conv.groups;
            add(ParameterRole::kWeight, Shape{conv.out_channels, conv.kernel, conv.kernel, in},
                conv.weight, fan_in, fan_out);
            if (conv.has_bias) {
              add(ParameterRole::kBias, Shape{conv.out_channels}, conv.bias, fan_in, fan_out);
            }
          },
          [&](const FullyConnected& fc) {
            const int64_t in = input.count();
            add(ParameterRole::kWeight, Shape{fc.out_features, in}, fc.weight, in, fc.out_features);
            if (fc.has_bias) {
              add(ParameterRole::kBias, Shape{fc.out_features}, fc.bias, in, fc.out_features);
            }
          },
          [&](const BatchNorm& norm) {
            const int64_t channels = input.back();
            add(ParameterRole::kWeight, Shape{channels}, norm.weight, 1, 1);
            add(ParameterRole::kBias, Shape{channels}, norm.bias, 1, 1);
          },
          [](const auto&) {}},
      layer.layer);
  return parameters;
}

std::vector<BufferInfo> BuffersOf(const LayerSpec& layer, const Shape& input) {
  if (!std::holds_alternative<BatchNorm>(layer.layer)) return {};
  const Shape channels{input.back()};
  return {{layer.name + ".running_mean", BufferRole::kRunningMean, channels, 0},
          {layer.name + ".running_variance", BufferRole::kRunningVariance, channels, 1}};
}

std::vector<LayerSite> SitesOf(const Shape& input, const std::vector<LayerSpec>& layers) {
  std::vector<LayerSite> sites;
  sites.reserve(layers.size());
  for (const LayerSpec& layer : layers) {
    const Shape& read = sites.empty() ? input : sites.back().output;
    sites.push_back({.index = static_cast<int>(sites.size()),
                     .layer = layer,
                     .input = read,
                     .output = OutputShape(layer, read),
                     .parameters = ParametersOf(layer, read),
                     .buffers = BuffersOf(layer, read)});
  }
  return sites;
}

std::vector<LayerSite> SitesOf(const NetworkSpec& network) {
  return SitesOf(network.input, network.layers);
}

bool HasBatchNorm(const NetworkSpec& network) {
  return std::any_of(network.layers.begin(), network.layers.end(), [](const LayerSpec& layer) {
    return std::holds_alternative<BatchNorm>(layer.layer);
  });
}

LayerCounts CountsOf(const LayerSite& site) {
  LayerCounts counts;
  for (const ParameterInfo& parameter : site.parameters) {
    counts.parameters += parameter.shape.count();
  }
  const int64_t outputs = site.output.count();
  if (const auto* conv = std::get_if<Convolution>(&site.layer.layer)) {
    counts.neurons = outputs;
    counts.multiply_adds = outputs * conv->kernel * conv->kernel * (site.input[2] / conv->groups);
  } else if (std::holds_alternative<FullyConnected>(site.layer.layer)) {
    counts.neurons = outputs;
    counts.multiply_adds = outputs * site.input.count();
  }
  return counts;
}

LayerCounts CountsOf(const NetworkSpec& network) {
  LayerCounts total;
  for (const LayerSite& site : SitesOf(network)) {
    const LayerCounts counts = CountsOf(site);
    total.parameters += counts.parameters;
    total.multiply_adds += counts.multiply_adds;
    total.neurons += counts.neurons;
  }
  return total;
}

int64_t TrainingFlops(const NetworkSpec& network) {
  int64_t multiply_adds = 0;
  bool first_with_weights = true;
  for (const LayerSite& site : SitesOf(network)) {
    const int64_t forward = CountsOf(site).multiply_adds;
    if (forward > 0) {
      multiply_adds += forward * (first_with_weights ? 2 : 3);
      first_with_weights = false;
    }
  }
  return 2 * multiply_adds;
}

}  // namespace convoy
