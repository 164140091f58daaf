#include "comm/device/nccl_group.h"

#include <cuda_runtime.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "core/cuda/check.h"
#include "core/cuda/runtime.h"
#include "core/error.h"
#include "core/host/clock.h"

namespace convoy {
namespace {

static_assert(sizeof(ncclUniqueId) == sizeof(NcclId));

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kUInt8:
      return ncclUint8;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      return ncclInt64;
  }
  return ncclUint8;
}

ncclRedOp_t OperationOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMax:
      return ncclMax;
    case ReduceOp::kMin:
      return ncclMin;
  }
  return ncclSum;
}

ExitCode ExitCodeOf(ncclResult_t result) {
  switch (result) {
    case ncclUnhandledCudaError:
      return ExitCode::kDevice;
    case ncclInvalidUsage:
      return ExitCode::kUsage;
    case ncclInvalidArgument:
      return ExitCode::kDefect;
    default:
      return ExitCode::kPeer;
  }
}

std::string OneLine(const char* text) {
  std::string line = text == nullptr ? "" : text;
  std::replace(line.begin(), line.end(), '\n', ' ');
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

// `where`: the group and device. `communicator`: null where there is none.
void RequireSuccess(ncclResult_t result, const char* call, const std::string& where,
                    ncclComm_t communicator) {
  if (result == ncclSuccess) return;
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, sizeof(host) - 1);
  const std::string detail = OneLine(ncclGetLastError(communicator));
  throw Error(ExitCodeOf(result),
              fmt::format("{} failed in {} of {}: {}{}", call, where, host,
                          ncclGetErrorString(result), detail.empty() ? "" : ": " + detail),
              "NCCL_DEBUG=WARN in the environment makes NCCL say more");
}

// The communicator, shared with the memory that is registered with it. NCCL's calls for one
// communicator are made one at a time. In its non-blocking mode none of them waits for other ranks,
// so the lock is held for moments.
struct Connection {
  std::timed_mutex mutex;
  ncclComm_t communicator = nullptr;  // null: not connected yet, ended, or aborted
};

class NcclGroupOfDevice final : public NcclGroup {
 public:
  explicit NcclGroupOfDevice(const NcclGroupOptions& options)
      : options_(options),
        where_(fmt::format("group {} on cuda:{}", options.name, options.device)),
        stream_(cuda::MakeStream(options.device, cuda::Priority::kHigh)) {}

  const std::string& name() const override { return options_.name; }

  void Connect(const NcclId& id) override {
    UseDevice();
    // Groups of one device, those of the towers and of the replicas, run side by side. NCCL then
    // needs to know their order, which is that of the host's calls on every rank; without it they
    // could wait for each other for ever. Read when the first communicator is made.
    setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", /*overwrite=*/0);
    ncclUniqueId unique_id;
    std::memcpy(&unique_id, id.bytes.data(), sizeof(unique_id));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.commName = options_.name.c_str();
    ncclResult_t result = ncclSuccess;
    {
      const std::lock_guard lock(connection_->mutex);
      result = ncclCommInitRankConfig(&connection_->communicator, options_.size, unique_id,
                                      options_.rank, &config);
    }
    Settle(result, "ncclCommInitRankConfig");
  }

  Queued Queue(Stream& stream, const Collective& collective) override {
    UseDevice();
    Queued queued;
    if (stream.device().kind == DeviceKind::kCuda) {
      queued.recorded = cuda::IsRecording(stream);
      stream_->WaitFor(*stream.Record());
    }
    if (collective.block_count > 0) Start(collective);
    queued.done = stream_->Record();
    return queued;
  }

  Buffer AllocateRegistered(int64_t bytes) override {
    UseDevice();
    const auto size = static_cast<size_t>(std::max<int64_t>(1, bytes));
    void* data = nullptr;
    RequireSuccess(ncclMemAlloc(&data, size), "ncclMemAlloc", where_, nullptr);
    // The release owns the memory from here on.
    const auto registration = std::make_shared<void*>(nullptr);
    Buffer buffer(data, bytes, {DeviceKind::kCuda, options_.device},
                  [connection = connection_, registration](void* memory) {
                    Release(*connection, *registration, memory);
                  });
    // On a stream of its own: the device cannot be synchronised while another thread records a
    // step, and this group's stream may be busy.
    const std::unique_ptr<Stream> stream = cuda::MakeStream(options_.device);
    cuda::SetZero(*stream, data, bytes);
    stream->Synchronize();
    Call("ncclCommRegister", [&](ncclComm_t communicator) {
      return ncclCommRegister(communicator, data, size, registration.get());
    });
    return buffer;
  }

  void Finalise() override {
    UseDevice();
    Call("ncclCommFinalize", ncclCommFinalize);
    const std::lock_guard lock(connection_->mutex);
    const ncclComm_t communicator = std::exchange(connection_->communicator, nullptr);
    if (communicator == nullptr) return;
    RequireSuccess(ncclCommDestroy(communicator), "ncclCommDestroy", where_, nullptr);
  }

  void Check() override {
    UseDevice();  // also for the events that the caller looks at next
    const std::unique_lock lock(connection_->mutex, std::try_to_lock);
    // Whoever has the lock sees for itself what NCCL says.
    if (!lock || connection_->communicator == nullptr) return;
    const ncclResult_t state = StateLocked();
    if (state != ncclInProgress) {
      RequireSuccess(state, "NCCL", where_, connection_->communicator);
    }
  }

  void Abort() override {
    cudaSetDevice(options_.device);
    ncclComm_t communicator = nullptr;
    {
      // No other thread may be inside NCCL; one that does not come back is left alone.
      std::unique_lock lock(connection_->mutex, std::defer_lock);
      if (!lock.try_lock_for(std::chrono::seconds(1))) return;
      communicator = std::exchange(connection_->communicator, nullptr);
    }
    if (communicator != nullptr) ncclCommAbort(communicator);
  }

 private:
  // Every thread has a current device of its own.
  void UseDevice() const { CONVOY_CUDA_CALL(cudaSetDevice(options_.device)); }

  static void Release(Connection& connection, void* registration, void* memory) {
    {
      const std::lock_guard lock(connection.mutex);
      // A communicator that ends takes its registrations with it.
      if (connection.communicator != nullptr && registration != nullptr) {
        ncclCommDeregister(connection.communicator, registration);
      }
    }
    // ncclMemFree unmaps the memory at once, whatever still uses it; cudaFree would wait. A
    // recording forbids the wait, but holds no memory that is given back meanwhile.
    cudaDeviceSynchronize();
    cudaGetLastError();
    ncclMemFree(memory);
  }

  // What the last call has come to.
  ncclResult_t StateLocked() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(connection_->communicator, &state);
    return asked == ncclSuccess ? state : asked;
  }

  // Calls `function` with the communicator, and waits until NCCL has done what it asks for.
  template <typename Function>
  void Call(const char* call, const Function& function) {
    ncclResult_t result = ncclSuccess;
    {
      const std::lock_guard lock(connection_->mutex);
      RequireConnected(call);
      result = function(connection_->communicator);
      // A call may return success while the communicator still works on it.
      if (result == ncclSuccess) result = StateLocked();
    }
    Settle(result, call);
  }

  void RequireConnected(const char* call) const {
    if (connection_->communicator != nullptr) return;
    throw Error(ExitCode::kPeer, fmt::format("{}: {} has been given up", call, where_));
  }

  // NCCL does in a thread of its own what could block: connecting, and bringing a collective to its
  // stream. That has to be over before the next call, and before an event is recorded after it.
  // Nothing here waits for the device.
  void Settle(ncclResult_t result, const char* call) {
    const Clock::time_point start = Clock::now();
    while (result == ncclInProgress) {
      const double seconds = SecondsSince(start);
      if (options_.deadline_s > 0 && seconds > options_.deadline_s) {
        throw Error(ExitCode::kPeer,
                    fmt::format("{} in {}: waited {:.1f} s for {} ranks", call, where_, seconds,
                                options_.size),
                    "see the logs of the other ranks; where one is only slow, raise --deadline");
      }
      if (seconds < 1e-3) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
      const std::lock_guard lock(connection_->mutex);
      RequireConnected(call);
      result = StateLocked();
    }
    if (result == ncclSuccess) return;
    const std::lock_guard lock(connection_->mutex);
    RequireSuccess(result, call, where_, connection_->communicator);
  }

  void Start(const Collective& collective) {
    const auto count = static_cast<size_t>(collective.block_count);
    const ncclDataType_t type = TypeOf(collective.dtype);
    const ncclRedOp_t op = OperationOf(collective.op);
    const void* const send = collective.send.data;
    void* const receive = collective.receive.data;
    const auto stream = static_cast<cudaStream_t>(stream_->native_handle());
    Call(collective.what, [&](ncclComm_t communicator) -> ncclResult_t {
      switch (collective.kind) {
        case CollectiveKind::kAllReduce:
          return ncclAllReduce(receive, receive, count, type, op, communicator, stream);
        case CollectiveKind::kAllGather:
          return ncclAllGather(send, receive, count, type, communicator, stream);
        case CollectiveKind::kReduceScatter:
          return ncclReduceScatter(send, receive, count, type, op, communicator, stream);
        case CollectiveKind::kBroadcast:
          return ncclBroadcast(receive, receive, count, type, collective.root, communicator,
                               stream);
        case CollectiveKind::kGather:
          return GatherBlocks(collective, communicator, stream);
        case CollectiveKind::kScatter:
          return ScatterBlocks(collective, communicator, stream);
        case CollectiveKind::kBarrier:
          break;
      }
      return ncclInvalidArgument;
    });
  }

  // Block `r` of the root's tensor.
  static std::byte* BlockOf(const Tensor& blocks, const Collective& collective, int r) {
    return static_cast<std::byte*>(blocks.data) + r * collective.block_bytes();
  }

  // The root's own block does not travel.
  void CopyOwnBlock(void* to, const void* from, const Collective& collective) {
    if (to != from) stream_->Copy(to, from, collective.block_bytes());
  }

  ncclResult_t GatherBlocks(const Collective& collective, ncclComm_t communicator,
                            cudaStream_t stream) {
    const auto count = static_cast<size_t>(collective.block_count);
    const ncclDataType_t type = TypeOf(collective.dtype);
    if (options_.rank != collective.root) {
      return ncclSend(collective.send.data, count, type, collective.root, communicator, stream);
    }
    CopyOwnBlock(BlockOf(collective.receive, collective, options_.rank), collective.send.data,
                 collective);
    return ForEachPeer([&](int peer) {
      return ncclRecv(BlockOf(collective.receive, collective, peer), count, type, peer,
                      communicator, stream);
    });
  }

  ncclResult_t ScatterBlocks(const Collective& collective, ncclComm_t communicator,
                             cudaStream_t stream) {
    const auto count = static_cast<size_t>(collective.block_count);
    const ncclDataType_t type = TypeOf(collective.dtype);
    if (options_.rank != collective.root) {
      return ncclRecv(collective.receive.data, count, type, collective.root, communicator, stream);
    }
    CopyOwnBlock(collective.receive.data, BlockOf(collective.send, collective, options_.rank),
                 collective);
    return ForEachPeer([&](int peer) {
      return ncclSend(BlockOf(collective.send, collective, peer), count, type, peer, communicator,
                      stream);
    });
  }

  // One group of calls, so that none waits for another.
  template <typename Function>
  ncclResult_t ForEachPeer(const Function& function) {
    ncclResult_t failure = ncclGroupStart();
    if (failure != ncclSuccess) return failure;
    for (int peer = 0; peer < options_.size; ++peer) {
      if (peer == options_.rank) continue;
      const ncclResult_t result = function(peer);
      const bool failed = result != ncclSuccess && result != ncclInProgress;
      if (failed && failure == ncclSuccess) failure = result;
    }
    const ncclResult_t ended = ncclGroupEnd();
    return failure == ncclSuccess ? ended : failure;
  }

  const NcclGroupOptions options_;
  const std::string where_;
  const std::unique_ptr<Stream> stream_;
  const std::shared_ptr<Connection> connection_ = std::make_shared<Connection>();
};

}  // namespace
}  // namespace convoy

CONVOY_CUDA_MODULE_FUNCTION int convoy_nccl_version() {
  int version = 0;
  ncclGetVersion(&version);
  return version;
}

CONVOY_CUDA_MODULE_FUNCTION void convoy_nccl_make_id(convoy::NcclId& id) {
  ncclUniqueId unique_id;
  convoy::RequireSuccess(ncclGetUniqueId(&unique_id), "ncclGetUniqueId", "rank 0", nullptr);
  std::memcpy(id.bytes.data(), &unique_id, sizeof(unique_id));
}

CONVOY_CUDA_MODULE_FUNCTION convoy::NcclGroup* convoy_nccl_make_group(
    const convoy::NcclGroupOptions& options) {
  return std::make_unique<convoy::NcclGroupOfDevice>(options).release();
}
