#include "layers/cuda/backend.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/text.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/products/library.h"
#include "layers/cuda/step_state.h"
#include "layers/operations/operation_network.h"

namespace convoy::cuda {
namespace {

class CudaFactory final : public OperationFactory {
 public:
  explicit CudaFactory(const OperationResources& resources) : resources_(resources) {}

  // A batch that does not fit is refused with the number of rows that would.
  void Announce(int64_t bytes, int64_t rows) override {
    const MemoryState memory = MemoryOf(resources_.device);
    if (bytes <= memory.free_bytes) return;
    // `bytes` are activations and their gradients; operations keep a little besides.
    const int64_t fits = memory.free_bytes * 9 / 10 / std::max<int64_t>(1, bytes / rows);
    throw Error(ExitCode::kDevice,
                fmt::format("activations of {} rows need {} on cuda:{}, {} of {} are free", rows,
                            FormatBytes(static_cast<double>(bytes)), resources_.device,
                            FormatBytes(static_cast<double>(memory.free_bytes)),
                            FormatBytes(static_cast<double>(memory.total_bytes))),
                fmt::format("about {} rows per rank would fit: give a smaller --batch-size, or "
                            "more ranks",
                            fits));
  }
  Buffer Allocate(int64_t bytes) override { return AllocateDevice(resources_.device, bytes); }

  std::unique_ptr<Operation> Make(const Layer& layer, const Wiring& wiring) override {
    return std::visit([&](const auto& spec) { return MakeOperation(spec, wiring, resources_); },
                      layer);
  }

 private:
  OperationResources resources_;
};

// Bytes per second, read and written, of copies on the device: what an operation that computes
// little can reach. Of less memory if the network leaves little.
double CopyRate(int device) {
  constexpr int64_t kMostBytes = 256 << 20;
  constexpr int kCopies = 8;
  const int64_t bytes = std::min(kMostBytes, MemoryOf(device).free_bytes / 4);
  const Buffer from = AllocateDevice(device, bytes), to = AllocateDevice(device, bytes);
  const std::unique_ptr<Stream> stream = MakeStream(device);
  stream->Copy(to.data(), from.data(), bytes);
  const std::unique_ptr<Event> start = stream->Record();
  for (int i = 0; i < kCopies; ++i) stream->Copy(to.data(), from.data(), bytes);
  const std::unique_ptr<Event> end = stream->Record();
  end->Synchronize();
  return 2.0 * kCopies * static_cast<double>(bytes) / end->SecondsSince(*start);
}

class CudaNetwork final : public OperationNetwork {
 public:
  CudaNetwork(const SegmentSpec& segment, const CompileOptions& options,
              const NetworkArenas& arenas, const OperationResources& resources, StepState& state)
      : OperationNetwork(segment, options, arenas,
                         PlanOperations(segment, options, {.products_mask_dx = true}),
                         std::make_unique<CudaFactory>(resources)),
        device_(resources.device),
        state_(state) {}

  void Forward(const StepContext& context) override {
    state_.SetValues(*context.stream, context);
    OperationNetwork::Forward(context);
  }
  // Measures only the products; takes the other operations at the rate of a copy.
  std::vector<OperationLimit> MeasureLimits(int repetitions) override {
    std::vector<OperationLimit> limits = OperationNetwork::MeasureLimits(repetitions);
    const double bytes_per_s = CopyRate(device_);
    for (OperationLimit& traffic : ActivationTraffic()) {
      const bool is_product = std::any_of(limits.begin(), limits.end(), [&](const auto& limit) {
        return limit.operation.starts_with(traffic.operation);
      });
      if (is_product) continue;
      traffic.seconds = traffic.bytes / bytes_per_s;
      limits.push_back(traffic);
    }
    return limits;
  }

 private:
  int device_;
  StepState& state_;
};

CudaOptions WithWorkspace(CudaOptions options, const DeviceFacts& facts) {
  if (options.workspace_bytes == 0) {
    options.workspace_bytes = std::max(kLeastWorkspaceBytes, facts.memory_bytes * 8 / 100);
  }
  return options;
}

// Sets what changes from step to step, and queues the step: its work itself, or a recording of it.
// The first run is not recorded: libraries load and set themselves up in it.
class CudaStepRunner final : public StepRunner {
 public:
  CudaStepRunner(StepState& state, bool records) : state_(state), records_(records) {}

  void Run(Stream& stream, const StepContext& context,
           const std::function<void()>& queue_work) override {
    state_.SetValues(stream, context);
    if (!records_ || !has_run_) {
      has_run_ = true;
      return queue_work();
    }
    if (!recorded_ && !CanRecord(stream, queue_work)) return queue_work();
    recorded_->Queue(stream);
  }
  void Forget() override {
    recorded_.reset();
    has_run_ = false;
  }
  std::string why_not_recorded() const override { return why_not_recorded_; }

 private:
  // An engine of the vendor's that was chosen for its speed may do something that cannot be
  // recorded. Then the step's work itself is queued from here on.
  bool CanRecord(Stream& stream, const std::function<void()>& queue_work) {
    try {
      recorded_ = Record(stream, queue_work);
      return true;
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kDevice) throw;
      stream.Synchronize();  // throws if it is the device that has failed
      why_not_recorded_ = error.message();
      records_ = false;
      return false;
    }
  }

  StepState& state_;
  bool records_;
  std::string why_not_recorded_;
  bool has_run_ = false;
  std::unique_ptr<RecordedWork> recorded_;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options)
      : facts_(FactsOf(options.device)),
        options_(WithWorkspace(options, facts_)),
        library_(MakeLibrary(options_)),
        state_(options.device) {}

  std::string Describe() const override {
    return fmt::format("cuda:{}: {}", options_.device, Platform());
  }
  std::string Platform() const override {
    return fmt::format("{}, {}, {}{}", facts_.name,
                       FormatBytes(static_cast<double>(facts_.memory_bytes)), Libraries(),
                       options_.tf32 ? ", TF32" : "");
  }
  std::string Libraries() const override {
    const int runtime = RuntimeVersions().runtime;
    return fmt::format("CUDA {}.{}, {}", runtime / 1000, runtime % 1000 / 10, library_->Describe());
  }
  Device device() const override { return {DeviceKind::kCuda, options_.device}; }
  DType master_dtype() const override { return DType::kFloat32; }
  void RequireDType(DType dtype) const override {
    if (dtype == DType::kFloat32 || dtype == DType::kBFloat16) return;
    throw Error(ExitCode::kUsage,
                fmt::format("--dtype {}: CUDA computes in fp32 or bf16", NameOf(dtype)));
  }

  std::unique_ptr<Stream> MakeStream() override { return cuda::MakeStream(options_.device); }
  Buffer Allocate(int64_t bytes) override { return AllocateDevice(options_.device, bytes); }
  Buffer AllocateStaging(int64_t bytes) override { return AllocatePinned(options_.device, bytes); }
  int64_t device_memory_in_use() const override {
    const MemoryState memory = MemoryOf(options_.device);
    return memory.total_bytes - memory.free_bytes;
  }
  void CopyToHost(Stream& stream, const Tensor& from, void* to) override {
    stream.Copy(to, from.data, from.bytes());
    stream.Synchronize();
  }
  void CopyToDevice(Stream& stream, const void* from, const Tensor& to) override {
    stream.Copy(to.data, from, to.bytes());
    stream.Synchronize();
  }

  std::unique_ptr<InputStage> CompileInput(const InputOptions& options) override {
    RequireDType(options.dtype);
    return MakeInputStage(options, options_.device);
  }
  std::unique_ptr<Network> Compile(const SegmentSpec& segment, const CompileOptions& options,
                                   const NetworkArenas& arenas) override {
    RequireDType(options.dtype);
    const OperationResources resources{.device = options_.device,
                                       .library = library_.get(),
                                       .step_values = state_.device_values()};
    return std::make_unique<CudaNetwork>(segment, options, arenas, resources, state_);
  }

  void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole) override {
    cuda::ConcatenateChannels(stream, blocks, whole);
  }
  void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks) override {
    cuda::SplitChannels(stream, whole, blocks);
  }

  std::unique_ptr<Updater> CompileUpdate(const UpdateArenas& arenas,
                                         const UpdateOptions& options) override {
    return MakeUpdater(arenas, options, options_.device);
  }
  void RefreshCompute(Stream& stream, const Tensor& parameters, const Tensor& compute) override {
    if (compute.data != parameters.data) Convert(stream, parameters, compute);
  }
  void ConvertTensor(Stream& stream, const Tensor& from, const Tensor& to) override {
    Convert(stream, from, to);
  }

  std::unique_ptr<StepRunner> MakeStepRunner(bool records) override {
    return std::make_unique<CudaStepRunner>(state_, records);
  }
  KernelChoices kernel_choices() const override { return library_->choices(); }
  std::vector<KernelMeasurement> TakeKernelMeasurements() override {
    return library_->TakeMeasurements();
  }
  void UseKernelChoices(const KernelChoices& choices) override { library_->UseChoices(choices); }

 private:
  DeviceFacts facts_;
  CudaOptions options_;
  std::unique_ptr<Library> library_;
  StepState state_;
};

}  // namespace

std::unique_ptr<Operation> MakeOperation(const Pool& pool, const Wiring& wiring,
                                         const OperationResources& resources) {
  return pool.kind == PoolKind::kMax ? MakeMaxPool(pool, wiring, resources)
                                     : MakeAveragePool(pool, wiring);
}

std::unique_ptr<Backend> MakeBackend(const CudaOptions& options) {
  const int count = DeviceCount();
  if (options.device < 0 || options.device >= count) {
    throw Error(ExitCode::kDevice,
                fmt::format("there is no device cuda:{}; visible: {}", options.device,
                            FormatCount(count, "device")),
                "see CUDA_VISIBLE_DEVICES and nvidia-smi");
  }
  return std::make_unique<CudaBackend>(options);
}

}  // namespace convoy::cuda

CONVOY_CUDA_MODULE_FUNCTION convoy::Backend* convoy_make_cuda_backend(
    const convoy::CudaOptions& options) {
  return convoy::cuda::MakeBackend(options).release();
}
