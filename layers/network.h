// layers/network.h - a list of layers, and what it becomes once it is compiled for a device.
//
// Nothing here knows of ranks. If a layer needs a sum over ranks (batch norm), it calls a
// function that it was given; a plan that moves activations between ranks does so between two
// Networks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/device/stream.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor.h"
#include "layers/analysis.h"
#include "layers/spec.h"

namespace convoy {

// --- What is compiled ----------------------------------------------------------------------------

// Channels [begin, begin + count) of an uncut activation of `total` channels.
struct ChannelSlice {
  int64_t begin = 0, count = 0, total = 0;
  bool operator==(const ChannelSlice&) const = default;
};

// Returns part `part` of `total` channels that are cut into `parts` slices as even as can be: the
// first total % parts of them are one channel longer. 0 <= part <= parts; slice `parts` is the
// empty one that begins at `total`.
constexpr ChannelSlice ShareOf(int64_t total, int64_t parts, int64_t part) {
  const auto begin = [&](int64_t p) { return p * (total / parts) + std::min(p, total % parts); };
  return {begin(part), begin(std::min(part + 1, parts)) - begin(part), total};
}

// A list of layers that one rank runs without interruption. Sizes are this rank's own.
struct SegmentSpec {
  struct Item {
    LayerSpec layer;
    ChannelSlice output;  // which channels of the uncut layer's output this rank computes
    int uncut_index = 0;  // place in the uncut network; names the layer's random stream
  };
  Shape input;  // of one sample
  std::vector<Item> items;
  bool needs_input_gradient = false;
};

// Returns the whole network as one segment: what one rank without a cut runs.
SegmentSpec WholeNetwork(const NetworkSpec& network);
// Returns the segment's items in order, each with this rank's own shapes.
std::vector<LayerSite> SitesOf(const SegmentSpec& segment);

// The flat memory that a Network works on. It belongs to the caller and outlives the Network.
// `parameters`, `compute` and `gradients` share `parameter_layout`; `buffers` has `buffer_layout`
// (names: layers/analysis.h).
struct NetworkArenas {
  const ArenaLayout* parameter_layout = nullptr;
  Tensor parameters;  // master weights: fp32, fp64 on the oracle
  Tensor compute;     // bf16 copy that the layers read in a bf16 network; otherwise `parameters`
  Tensor gradients;   // type of `parameters`; empty when training is false
  const ArenaLayout* buffer_layout = nullptr;
  Tensor buffers;  // type of `parameters`
};

struct CompileOptions {
  DType dtype = DType::kFloat32;  // of activations: fp32 or bf16; the oracle takes only fp64
  int64_t batch = 1;              // rows of every activation
  bool training = true;           // false: no gradients, no backward
  bool accumulates = false;       // StepContext::adds_gradients may be set
};

// --- Running it ----------------------------------------------------------------------------------

// What the network is told of each row, in device memory; filled by InputStage::Load.
struct RowInfo {
  Tensor labels;     // int32 [N]
  Tensor weights;    // fp32 [N]
  Tensor positions;  // int64 [N], -1 for padding
};

// Queues the sum of `values` (fp64, in place) over the replicas on the stream.
using ReduceStatistics = std::function<void(Stream&, const Tensor& values)>;

// Receives the time of every operation of a Network, for benches.
class OperationTimer {
 public:
  virtual ~OperationTimer() = default;
  // `operation`: "conv1 forward", "norm1+pool1 backward", ...
  virtual void Record(const std::string& operation, double seconds) = 0;
};

struct StepContext {
  Stream* stream = nullptr;
  bool training = false;  // dropout draws its mask, batch norm uses the batch's statistics
  uint64_t seed = 0;
  int64_t epoch = 0;
  RowInfo rows;
  // The loss that is differentiated is loss_scale * sum over rows of weight * loss.
  double loss_scale = 1;
  // Backward adds the weights' gradients to what lies in the arena.
  bool adds_gradients = false;
  ReduceStatistics reduce_statistics;  // empty: this network sees the whole global batch
  OperationTimer* timer = nullptr;
};

// Called during Backward, from the last layer to the first. Ranges are elements of the gradient
// arena.
class BackwardObserver {
 public:
  virtual ~BackwardObserver() = default;
  // The range is final once the work queued so far is done.
  virtual void GradientReady(int64_t begin, int64_t count) = 0;
  // The weights of the range are not read again in this step by work queued later.
  virtual void WeightsReleased(int64_t begin, int64_t count) = 0;
};

// Sums over the rows of a batch, each row times its weight.
struct LossSums {
  double weight = 0;
  double loss = 0;
  double top1 = 0, top5 = 0;  // rows whose label is among the 1 or 5 most probable classes
  LossSums& operator+=(const LossSums& other) {
    weight += other.weight;
    loss += other.loss;
    top1 += other.top1;
    top5 += other.top5;
    return *this;
  }
};

// Returns `sums` as a tensor, fp64 [4]; it stays the memory of `sums`.
Tensor ViewOf(LossSums& sums);
// Reads such a tensor. Waits for all work queued on `stream`.
LossSums ReadLossSums(Stream& stream, const Tensor& sums);

// The time of a vendor's bare primitives, the floor under an operation.
struct OperationLimit {
  std::string operation;  // as OperationTimer names it
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
};

// A compiled segment. It owns its activations, and is used on one stream and by one thread at a
// time.
class Network {
 public:
  virtual ~Network() = default;

  // [N, ...] in the network's type. Whoever feeds the segment writes input() before Forward and
  // output_gradient() before Backward. A segment that ends in the loss has probabilities as
  // output() (fp32 or fp64, [N, classes]) and no output_gradient(). input_gradient() is empty if
  // the segment does not need it.
  virtual Tensor input() const = 0;
  virtual Tensor output() const = 0;
  virtual Tensor output_gradient() const = 0;
  virtual Tensor input_gradient() const = 0;

  virtual void Forward(const StepContext& context) = 0;
  // Call after Forward with training = true. Writes the gradients of the layers that learn into the
  // arena; adds them to what is there if context.adds_gradients, for which the network must have
  // been compiled. Gradients of activations are always written.
  virtual void Backward(const StepContext& context, BackwardObserver& observer) = 0;

  // Sets which layers learn (one per item; layers without parameters are ignored), and whether
  // input_gradient() is wanted. Nothing is computed below the last layer that learns.
  // Default: all, and what the spec says.
  virtual void SetLearning(const std::vector<bool>& learns, bool input_gradient) = 0;

  // Returns the LossSums of the last Forward, fp64 [4] in the backend's memory. Only for a segment
  // that ends in the loss.
  virtual Tensor loss_sums() = 0;

  // Returns the output of item `index` after Forward; empty if it was fused into a later one.
  virtual Tensor Activation(int index) const = 0;

  // Runs the vendor's primitives that this network consists of, each by itself and `repetitions`
  // times, and returns their median times. Empty if there is nothing to measure. Overwrites
  // activations.
  virtual std::vector<OperationLimit> MeasureLimits(int repetitions) {
    (void)repetitions;
    return {};
  }
};

}  // namespace convoy
