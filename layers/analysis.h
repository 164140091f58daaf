// layers/analysis.h - what follows from a list of layers alone: shapes, parameters, counts.
#pragma once

#include <string>
#include <vector>

#include "layers/spec.h"

namespace convoy {

// The shape of the layer's output for one sample. Throws (kUsage) naming the layer when `input`
// does not fit: channels that the groups do not divide, a kernel larger than the padded image, ...
Shape OutputShape(const LayerSpec& layer, const Shape& input);

// What a learned tensor does in its layer. Batch norm's scale is its weight, its shift its bias.
enum class ParameterRole { kWeight, kBias };

// A learned tensor of a layer.
struct ParameterInfo {
  std::string name;  // "conv1.weight": the layer's name and the role's
  ParameterRole role = ParameterRole::kWeight;
  Shape shape;
  ParameterSpec spec;
  int64_t fan_in = 0, fan_out = 0;
};

// The learned tensors of a layer that reads `input`: weight, then bias.
std::vector<ParameterInfo> ParametersOf(const LayerSpec& layer, const Shape& input);

enum class BufferRole { kRunningMean, kRunningVariance };

// A tensor that belongs to the network's state but is not learned.
struct BufferInfo {
  std::string name;  // "norm1.running_mean"
  BufferRole role = BufferRole::kRunningMean;
  Shape shape;
  double initial_value = 0;
};
std::vector<BufferInfo> BuffersOf(const LayerSpec& layer, const Shape& input);

// A layer at its place in a list, with all that follows from what it reads there.
struct LayerSite {
  int index = 0;  // in the list
  LayerSpec layer;
  Shape input, output;  // of one sample
  std::vector<ParameterInfo> parameters;
  std::vector<BufferInfo> buffers;
};

// Returns the layers in order, each with its shapes. Throws as OutputShape does.
std::vector<LayerSite> SitesOf(const Shape& input, const std::vector<LayerSpec>& layers);
std::vector<LayerSite> SitesOf(const NetworkSpec& network);

// Whether a layer normalises over the rows of a batch.
bool HasBatchNorm(const NetworkSpec& network);

struct LayerCounts {
  int64_t parameters = 0;
  int64_t multiply_adds = 0;  // forward, one sample
  int64_t neurons = 0;        // outputs of layers with weights, as the paper counts them
};
LayerCounts CountsOf(const LayerSite& site);
// Summed over the network.
LayerCounts CountsOf(const NetworkSpec& network);

// FLOP of one training step per image: forward, weight gradients and data gradients, two per
// multiply-add, without a data gradient for the first layer: 4.136e9 for alexnet2012.
int64_t TrainingFlops(const NetworkSpec& network);

}  // namespace convoy
