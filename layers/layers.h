// layers/layers.h - start here: how a list of layers is run on a device.
//
//   Backend           one device: memory, compilation, the optimiser's kernel
//     InputStage      finishes uint8 crops to the network's type
//     Network         a compiled list of layers: Forward, Backward
//
// Nothing here knows of ranks. Where a layer needs a sum over ranks (batch norm), it calls a
// function that it was given; where a plan moves activations between ranks, it does so between two
// Networks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/tensor/arena.h"
#include "core/tensor/batch.h"
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

// The whole network as one segment: what one rank without a cut runs.
SegmentSpec WholeNetwork(const NetworkSpec& network);

// The flat memory that a Network works on; the caller's, and outlives it. `parameters`, `compute`
// and `gradients` share `parameter_layout`; `buffers` has `buffer_layout` (names:
// layers/analysis.h).
struct NetworkArenas {
  const ArenaLayout* parameter_layout = nullptr;
  Tensor parameters;  // master weights: fp32, fp64 on the oracle
  Tensor compute;     // bf16 copy that the layers read in a bf16 network; otherwise `parameters`
  Tensor gradients;   // type of `parameters`; empty when training is false
  const ArenaLayout* buffer_layout = nullptr;
  Tensor buffers;  // type of `parameters`
};

struct CompileOptions {
  DType dtype = DType::kFloat32;  // of activations: fp32 or bf16; the oracle takes fp64 alone
  int64_t batch = 1;              // rows of every activation
  bool training = true;           // false: no gradients, no backward
};

// --- Running it ----------------------------------------------------------------------------------

// What the network is told of each row, in device memory; filled by InputStage::Load.
struct RowInfo {
  Tensor labels;     // int32 [N]
  Tensor weights;    // fp32 [N]
  Tensor positions;  // int64 [N], -1 for padding
};

// Sums `values` (fp64, in place) over the replicas. Queued on the stream.
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

// fp64 [4], where `sums` lies.
Tensor ViewOf(LossSums& sums);
// What such a tensor holds, behind what was queued on `stream`, which is waited for.
LossSums ReadLossSums(Stream& stream, const Tensor& sums);

// The time of a vendor's bare primitives, the floor under an operation.
struct OperationLimit {
  std::string operation;  // as OperationTimer names it
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
};

// A compiled segment. Owns its activations. One stream, one thread at a time.
class Network {
 public:
  virtual ~Network() = default;

  // [N, ...] in the network's type. Whoever feeds the segment writes input() before Forward and
  // output_gradient() before Backward. A segment that ends in the loss has probabilities as
  // output() (fp32 or fp64, [N, classes]) and no output_gradient(). input_gradient() is empty where
  // the segment does not need it.
  virtual Tensor input() const = 0;
  virtual Tensor output() const = 0;
  virtual Tensor output_gradient() const = 0;
  virtual Tensor input_gradient() const = 0;

  virtual void Forward(const StepContext& context) = 0;
  // After Forward with training = true. Writes the gradients of the layers that learn into the
  // arena (it does not add to what is there).
  virtual void Backward(const StepContext& context, BackwardObserver& observer) = 0;

  // Which layers learn (one per item; layers without parameters are ignored), and whether
  // input_gradient() is wanted. Nothing is computed below the last layer that learns.
  // Default: all, and what the spec says.
  virtual void SetLearning(const std::vector<bool>& learns, bool input_gradient) = 0;

  // The LossSums of the last Forward, fp64 [4] in the backend's memory. Only for a segment that
  // ends in the loss.
  virtual Tensor loss_sums() = 0;

  // The output of item `index` after Forward; empty where it was fused into a later one.
  virtual Tensor Activation(int index) const = 0;

  // Runs the vendor's primitives that this network consists of, alone, `repetitions` times each,
  // and gives their median times. Empty where there is nothing to measure. Overwrites activations.
  virtual std::vector<OperationLimit> MeasureLimits(int repetitions) {
    (void)repetitions;
    return {};
  }
};

// How pixels become numbers (core/tensor/batch.h has the formula).
struct InputOptions {
  Shape crop;  // [H, W, C]
  int64_t batch = 1;
  DType dtype = DType::kFloat32;          // of the result
  std::vector<float> mean;                // H*W*C values, or C, or none
  std::vector<float> standard_deviation;  // C values, or none
};

class InputStage {
 public:
  virtual ~InputStage() = default;
  // Starts to bring `batch`, that of the next Load, to the device while other work runs there. The
  // batch stays where it is until that Load has returned. Optional.
  virtual void Prefetch(const Batch& batch) { (void)batch; }
  // Finishes `batch` into `x` [N, H, W, C] and fills rows(). The batch may be given back when the
  // call returns.
  virtual void Load(Stream& stream, const Batch& batch, const Tensor& x) = 0;
  virtual RowInfo rows() const = 0;
};

// --- The optimiser's kernel ----------------------------------------------------------------------

enum class UpdateRule {
  kPaper,  // v = momentum * v - lr * (decay * w + g);  w = w + v        (paper, section 5)
  kTorch,  // v = momentum * v + (g + decay * w);       w = w - lr * v
};

// Elements [begin, begin + count) of the arenas and their settings. lr = 0 means frozen: neither w
// nor v changes.
struct UpdateRange {
  int64_t begin = 0, count = 0;
  double lr = 0, momentum = 0, weight_decay = 0;
};

struct UpdateRequest {
  UpdateRule rule = UpdateRule::kPaper;
  Tensor parameters;           // read and written
  Tensor compute;              // bf16 copy to write too; or `parameters`
  Tensor gradients;            // read
  std::vector<Tensor> states;  // read and written: momentum
  std::span<const UpdateRange> ranges;
  // int32 [1]. Set to 1 when a gradient or a new weight is not finite; when it is 1 already,
  // nothing is updated.
  Tensor non_finite;
};

// --- The device ----------------------------------------------------------------------------------

// How every product of a network is computed, chosen by measurement: "conv2 forward ..." -> what
// the vendor's library calls it. Two runs with the same choices give the same bits.
using KernelChoices = std::map<std::string, std::string>;

// Queues a step's work again and again. A device that can records it the first time, and queues the
// recording from then on: one call instead of a hundred.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Queues what `queue_work` queues on `stream`. Between two calls of Forget that is the same, but
  // for context.seed, epoch and loss_scale, and for the rates of `ranges`, those of every Update in
  // it.
  virtual void Run(Stream& stream, const StepContext& context, std::span<const UpdateRange> ranges,
                   const std::function<void()>& queue_work) = 0;
  // The next step's work is another.
  virtual void Forget() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // One line for people: "cpu: oneDNN 3.2, 2 threads", "cuda:0: NVIDIA H200, 150 GB, CUDA 13.0".
  virtual std::string Describe() const = 0;
  // The same without the device's ordinal. Where it is the same, kernel choices hold.
  virtual std::string Platform() const { return Describe(); }
  // The vendor's libraries with their versions, in which ranks must not differ; empty on the host.
  virtual std::string Libraries() const { return {}; }
  virtual Device device() const = 0;
  // The type of master weights, gradients and states: fp32, fp64 on the oracle.
  virtual DType master_dtype() const = 0;
  // Throws (kUsage) when this device cannot run networks of `dtype`.
  virtual void RequireDType(DType dtype) const = 0;

  virtual std::unique_ptr<Stream> MakeStream() = 0;
  // Device memory, zeroed. Throws (kDevice) with asked, free and total bytes.
  virtual Buffer Allocate(int64_t bytes) = 0;
  // Host memory that the device copies from at full speed.
  virtual Buffer AllocateStaging(int64_t bytes) = 0;
  // Bytes that are in use on the device, by this process and others; 0 on the host.
  virtual int64_t device_memory_in_use() const { return 0; }
  // Both wait until the copy is done.
  virtual void CopyToHost(Stream& stream, const Tensor& from, void* to) = 0;
  virtual void CopyToDevice(Stream& stream, const void* from, const Tensor& to) = 0;

  virtual std::unique_ptr<InputStage> CompileInput(const InputOptions& options) = 0;
  // Throws (kUsage) when the layers do not fit together.
  virtual std::unique_ptr<Network> Compile(const SegmentSpec& segment,
                                           const CompileOptions& options,
                                           const NetworkArenas& arenas) = 0;

  // blocks [G, N, ..., C] -> whole [N, ..., G*C], block g becoming channels [g*C, (g+1)*C); and
  // back. The only reorders of activations, where the towers meet.
  virtual void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole) = 0;
  virtual void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks) = 0;

  virtual void Update(Stream& stream, const UpdateRequest& request) = 0;
  // `records`: whether all that will be queued can be recorded, collectives included.
  virtual std::unique_ptr<StepRunner> MakeStepRunner(bool records);
  // How the products are computed that were compiled so far; empty where there is nothing to
  // choose.
  virtual KernelChoices kernel_choices() const { return {}; }
  // What is compiled from here on is computed as `choices` say, where they name it.
  virtual void UseKernelChoices(const KernelChoices& choices) { (void)choices; }
  // to = from, fp32 or bf16 to the other, rounded to nearest.
  virtual void ConvertTensor(Stream& stream, const Tensor& from, const Tensor& to) = 0;
  // compute = parameters, rounded. Nothing to do where they are one.
  virtual void RefreshCompute(Stream& stream, const Tensor& parameters, const Tensor& compute) = 0;
};

struct CudaOptions {
  int device = 0;                           // ordinal among the visible devices
  bool tf32 = false;                        // fp32 products may round their inputs to TF32
  int64_t workspace_bytes = 1'000'000'000;  // that one product may use
  KernelChoices kernel_choices;             // used where they name a product; the rest is measured
};

// Plain double loops, the yardstick of every other backend. `threads` >= 1.
std::unique_ptr<Backend> MakeOracleBackend(int threads);
// oneDNN and own kernels. `threads` >= 1.
std::unique_ptr<Backend> MakeCpuBackend(int threads);
// cuDNN, cuBLASLt and own kernels on one device. Throws (kDevice) where there is none, or Convoy
// was built without CUDA.
std::unique_ptr<Backend> MakeCudaBackend(const CudaOptions& options);

// Fills rows [begin, begin + values.shape[0]) of the uncut parameter `parameter` (its layer's index
// in the uncut network: `layer_index`) as its Init says. fp32 or fp64, host memory. A function of
// (seed, layer, element of the uncut tensor) alone; the same numbers in both types, rounded.
void Initialize(const ParameterInfo& parameter, int layer_index, int64_t begin, uint64_t seed,
                const Tensor& values);

}  // namespace convoy
