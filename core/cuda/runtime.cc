#include "core/cuda/runtime.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/cuda/check.h"
#include "core/error.h"
#include "core/text.h"

namespace convoy::cuda {
namespace {

void Use(int device) { CONVOY_CUDA_CALL(cudaSetDevice(device)); }

cudaStream_t HandleOf(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native_handle());
}

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(cudaStream_t stream) {
    CONVOY_CUDA_CALL(cudaEventCreate(&event_));
    CONVOY_CUDA_CALL(cudaEventRecord(event_, stream));
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  void Synchronize() override { CONVOY_CUDA_CALL(cudaEventSynchronize(event_)); }
  bool Reached() override {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    CONVOY_CUDA_CALL(state);
    return true;
  }
  double SecondsSince(const Event& earlier) const override {
    float milliseconds = 0;
    CONVOY_CUDA_CALL(
        cudaEventElapsedTime(&milliseconds, static_cast<const CudaEvent&>(earlier).event_, event_));
    return 1e-3 * static_cast<double>(milliseconds);
  }
  cudaEvent_t handle() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaStream final : public Stream {
 public:
  CudaStream(int device, Priority priority) : device_{DeviceKind::kCuda, device} {
    Use(device);
    int lowest = 0, highest = 0;
    CONVOY_CUDA_CALL(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    CONVOY_CUDA_CALL(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                                  priority == Priority::kHigh ? highest : lowest));
  }
  ~CudaStream() override { cudaStreamDestroy(stream_); }

  Device device() const override { return device_; }
  std::unique_ptr<Event> Record() override {
    Use(device_.index);
    return std::make_unique<CudaEvent>(stream_);
  }
  void WaitFor(Event& event) override {
    CONVOY_CUDA_CALL(cudaStreamWaitEvent(stream_, static_cast<CudaEvent&>(event).handle(), 0));
  }
  void Synchronize() override { CONVOY_CUDA_CALL(cudaStreamSynchronize(stream_)); }
  void Copy(void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return;
    CONVOY_CUDA_CALL(
        cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_));
  }
  void* native_handle() const override { return stream_; }

 private:
  Device device_;
  cudaStream_t stream_ = nullptr;
};

class CudaGraph final : public RecordedWork {
 public:
  explicit CudaGraph(cudaGraph_t graph) {
    // Collectives keep the priority of their stream.
    const cudaError_t made =
        cudaGraphInstantiate(&executable_, graph, cudaGraphInstantiateFlagUseNodePriority);
    cudaGraphDestroy(graph);
    CONVOY_CUDA_CALL(made);
  }
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  void Queue(Stream& stream) override {
    CONVOY_CUDA_CALL(cudaGraphLaunch(executable_, HandleOf(stream)));
  }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

void RequireSuccess(int code, const char* call) {
  if (code == cudaSuccess) return;
  const auto error = static_cast<cudaError_t>(code);
  cudaGetLastError();  // the next call starts clean, if the error is not sticky
  int device = 0;
  cudaGetDevice(&device);
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, sizeof(host) - 1);
  throw Error(ExitCode::kDevice,
              fmt::format("{} failed on cuda:{} of {}: {} ({})", call, device, host,
                          cudaGetErrorString(error), cudaGetErrorName(error)),
              "see nvidia-smi and the system log for faults of that device; convoy doctor checks "
              "the others");
}

int DeviceCount() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  const Versions versions = RuntimeVersions();
  if (versions.driver == 0) {
    throw Error(ExitCode::kDevice, "there is no NVIDIA driver on this machine",
                "install the driver, or give --backend cpu");
  }
  if (error == cudaErrorInsufficientDriver) {
    throw Error(ExitCode::kDevice,
                fmt::format("the NVIDIA driver is too old: it supports CUDA {}.{}, this Convoy "
                            "was built with {}.{}",
                            versions.driver / 1000, versions.driver % 1000 / 10,
                            versions.runtime / 1000, versions.runtime % 1000 / 10),
                "update the driver, or build Convoy with an older toolkit");
  }
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  throw Error(
      ExitCode::kDevice,
      fmt::format("no CUDA device can be used{}: {}",
                  visible == nullptr ? std::string()
                                     : fmt::format(" (CUDA_VISIBLE_DEVICES is \"{}\")", visible),
                  error == cudaSuccess ? "none is visible" : cudaGetErrorString(error)),
      "see nvidia-smi, or give --backend cpu");
}

DeviceFacts FactsOf(int device) {
  cudaDeviceProp properties{};
  CONVOY_CUDA_CALL(cudaGetDeviceProperties(&properties, device));
  char bus[32] = {};
  CONVOY_CUDA_CALL(cudaDeviceGetPCIBusId(bus, sizeof(bus), device));
  std::string uuid = "GPU";
  for (size_t i = 0; i < sizeof(properties.uuid.bytes); ++i) {
    const bool begins_group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
    uuid += fmt::format("{}{:02x}", begins_group ? "-" : "",
                        static_cast<unsigned char>(properties.uuid.bytes[i]));
  }
  return {.name = properties.name,
          .uuid = uuid,
          .pci_bus_id = bus,
          .compute_capability = 10 * properties.major + properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem)};
}

Versions RuntimeVersions() {
  Versions versions;
  cudaDriverGetVersion(&versions.driver);
  cudaRuntimeGetVersion(&versions.runtime);
  return versions;
}

MemoryState MemoryOf(int device) {
  Use(device);
  size_t free_bytes = 0, total_bytes = 0;
  CONVOY_CUDA_CALL(cudaMemGetInfo(&free_bytes, &total_bytes));
  return {static_cast<int64_t>(free_bytes), static_cast<int64_t>(total_bytes)};
}

std::unique_ptr<Stream> MakeStream(int device, Priority priority) {
  return std::make_unique<CudaStream>(device, priority);
}

Buffer AllocateDevice(int device, int64_t bytes) {
  Use(device);
  const auto size = static_cast<size_t>(bytes > 0 ? bytes : 1);
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, size);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const MemoryState memory = MemoryOf(device);
    throw Error(ExitCode::kDevice,
                fmt::format("cannot allocate {} of device memory on cuda:{}: {} of {} are free",
                            FormatBytes(static_cast<double>(bytes)), device,
                            FormatBytes(static_cast<double>(memory.free_bytes)),
                            FormatBytes(static_cast<double>(memory.total_bytes))),
                "give a smaller --batch-size or more ranks, or end what else uses the device");
  }
  CONVOY_CUDA_CALL(error);
  Buffer buffer(data, bytes, {DeviceKind::kCuda, device}, [](void* memory) { cudaFree(memory); });
  // On a stream of its own: the device cannot be synchronised while another thread records a step.
  CudaStream stream(device, Priority::kNormal);
  SetZero(stream, data, bytes);
  stream.Synchronize();
  return buffer;
}

Buffer AllocatePinned(int device, int64_t bytes) {
  Use(device);
  const auto size = static_cast<size_t>(bytes > 0 ? bytes : 1);
  void* data = nullptr;
  CONVOY_CUDA_CALL(cudaMallocHost(&data, size));
  std::memset(data, 0, size);
  return Buffer(data, bytes, Device{}, [](void* memory) { cudaFreeHost(memory); });
}

void SetZero(Stream& stream, void* data, int64_t bytes) {
  if (bytes == 0) return;
  CONVOY_CUDA_CALL(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), HandleOf(stream)));
}

bool CanAccessPeer(int from, int to) {
  int can = 0;
  CONVOY_CUDA_CALL(cudaDeviceCanAccessPeer(&can, from, to));
  return can != 0;
}

std::unique_ptr<RecordedWork> Record(Stream& stream, const std::function<void()>& queue_work) {
  const cudaStream_t handle = HandleOf(stream);
  cudaGraph_t graph = nullptr;
  // Other threads go on allocating and copying meanwhile, on streams of their own: the device as a
  // whole, and the stream that CUDA takes if none is named, can be waited for by nobody.
  CONVOY_CUDA_CALL(cudaStreamBeginCapture(handle, cudaStreamCaptureModeThreadLocal));
  try {
    queue_work();
  } catch (...) {
    cudaStreamEndCapture(handle, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  CONVOY_CUDA_CALL(cudaStreamEndCapture(handle, &graph));
  return std::make_unique<CudaGraph>(graph);
}

bool IsRecording(Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CONVOY_CUDA_CALL(cudaStreamIsCapturing(HandleOf(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace convoy::cuda
