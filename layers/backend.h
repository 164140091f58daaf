// layers/backend.h - one device: memory, input, compilation of networks, the optimiser's kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/tensor/batch.h"
#include "core/tensor/tensor.h"
#include "layers/analysis.h"
#include "layers/network.h"
#include "layers/updater.h"

namespace convoy {

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
  // batch stays in its place until that Load has returned. Optional.
  virtual void Prefetch(const Batch& batch) { (void)batch; }
  // Finishes `batch` into `x` [N, H, W, C] and fills rows(). The batch may be given back when the
  // call returns.
  virtual void Load(Stream& stream, const Batch& batch, const Tensor& x) = 0;
  virtual RowInfo rows() const = 0;
};

// How every product of a network is computed, chosen by measurement: "conv2 forward ..." -> what
// the vendor's library calls it. Two runs with the same choices give the same bits.
using KernelChoices = std::map<std::string, std::string>;

// How one of them was chosen.
struct KernelMeasurement {
  std::string product, choice;
  double seconds = 0;  // that it took to make and to time the candidates
  int tried = 0, refused = 0;
};

// Queues a step's work again and again. A device that can records it the first time, and queues the
// recording from then on: one call instead of a hundred.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Queues what `queue_work` queues on `stream`. Between two calls of Forget that is the same, but
  // for context.seed, epoch and loss_scale, and for the rates of updaters, which are set before the
  // call. Calls `queue_work` a second time if its recording fails half way.
  virtual void Run(Stream& stream, const StepContext& context,
                   const std::function<void()>& queue_work) = 0;
  // The next step's work is another.
  virtual void Forget() = 0;
  // Why the work is queued anew each time although it was to be recorded; empty otherwise.
  virtual std::string why_not_recorded() const { return {}; }
};

class Backend {
 public:
  virtual ~Backend() = default;

  // One line for people: "cpu: oneDNN 3.2, 2 threads", "cuda:0: NVIDIA H200, 150 GB, CUDA 13.0".
  virtual std::string Describe() const = 0;
  // Returns the same without the device's ordinal. If it is the same, kernel choices hold.
  virtual std::string Platform() const { return Describe(); }
  // Returns the vendor's libraries with their versions, in which ranks must not differ; empty on
  // the host.
  virtual std::string Libraries() const { return {}; }
  virtual Device device() const = 0;
  // Returns the type of master weights, gradients and states: fp32, fp64 on the oracle.
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

  // blocks [G, N, ..., ceil(C / G)] -> whole [N, ..., C], and back. Block g holds the channels
  // of ShareOf(C, G, g), which may be none. They lie densely, [N, ..., count], at the beginning of
  // its part of `blocks`; the rest of a part that is larger is neither read nor written. These are
  // the only reorders of activations.
  virtual void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole) = 0;
  virtual void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks) = 0;

  // The updater keeps no reference to `options`; the arenas outlive it.
  virtual std::unique_ptr<Updater> CompileUpdate(const UpdateArenas& arenas,
                                                 const UpdateOptions& options) = 0;
  // `records`: whether all that will be queued can be recorded, collectives included.
  virtual std::unique_ptr<StepRunner> MakeStepRunner(bool records);
  // Returns how the products are computed that were compiled so far; empty if there is nothing to
  // choose.
  virtual KernelChoices kernel_choices() const { return {}; }
  // Of the products that were measured since the last call, in their order.
  virtual std::vector<KernelMeasurement> TakeKernelMeasurements() { return {}; }
  // What is compiled from here on is computed as `choices` say, if they name it.
  virtual void UseKernelChoices(const KernelChoices& choices) { (void)choices; }
  // to = from, fp32 or bf16 to the other, rounded to nearest.
  virtual void ConvertTensor(Stream& stream, const Tensor& from, const Tensor& to) = 0;
  // compute = parameters, rounded. Nothing to do if they are one.
  virtual void RefreshCompute(Stream& stream, const Tensor& parameters, const Tensor& compute) = 0;
};

inline constexpr int64_t kLeastWorkspaceBytes = 1'000'000'000;

struct CudaOptions {
  int device = 0;     // ordinal among the visible devices
  bool tf32 = false;  // fp32 products may round their inputs to TF32
  // That one product may use besides its operands. 0: 8 % of the device's memory and at least
  // kLeastWorkspaceBytes, since what engines copy grows with the batch.
  int64_t workspace_bytes = 0;
  KernelChoices kernel_choices;  // used if they name a product; the rest is measured
};

// Plain double loops, the yardstick of every other backend. `threads` >= 1.
std::unique_ptr<Backend> MakeOracleBackend(int threads);
// oneDNN and own kernels. `threads` >= 1.
std::unique_ptr<Backend> MakeCpuBackend(int threads);
// cuDNN, cuBLASLt and own kernels on one device. Throws (kDevice) if there is none, or Convoy
// was built without CUDA.
std::unique_ptr<Backend> MakeCudaBackend(const CudaOptions& options);

// Fills rows [begin, begin + values.shape[0]) of the uncut parameter `parameter` (its layer's index
// in the uncut network: `layer_index`) as its Init says. fp32 or fp64, host memory. A function of
// (seed, layer, element of the uncut tensor) alone; the same numbers in both types, rounded.
void Initialize(const ParameterInfo& parameter, int layer_index, int64_t begin, uint64_t seed,
                const Tensor& values);

}  // namespace convoy
