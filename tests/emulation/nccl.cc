// What comm/device/nccl.cc looks up in the CUDA module, on the emulated device: NCCL for a group of
// one rank, whose collectives are queued and recorded as NCCL's are, and none for more.
#include <atomic>
#include <memory>

#include "comm/device/nccl_group.h"
#include "core/cuda/runtime.h"
#include "core/error.h"
#include "tests/emulation/unguarded_memory.h"

namespace convoy {
namespace {

// From 2.30 on, NCCL would be asked to connect ranks that share the device.
constexpr int kVersion = 22809;

class OneRankGroup final : public NcclGroup {
 public:
  explicit OneRankGroup(const NcclGroupOptions& options)
      : options_(options), stream_(cuda::MakeStream(options.device, cuda::Priority::kHigh)) {}

  const std::string& name() const override { return options_.name; }
  void Connect(const NcclId&) override {}

  Queued Queue(Stream& stream, const Collective& collective) override {
    RequireConnected(collective.what);
    Queued queued;
    if (stream.device().kind == DeviceKind::kCuda) {
      queued.recorded = cuda::IsRecording(stream);
      stream_->WaitFor(*stream.Record());
    }
    const Tensor &from = collective.send, &to = collective.receive;
    if (from && to && from.data != to.data) stream_->Copy(to.data, from.data, from.bytes());
    queued.done = stream_->Record();
    return queued;
  }

  Buffer AllocateRegistered(int64_t bytes) override {
    return cuda::AllocateUnguarded(options_.device, bytes);
  }
  void Finalise() override {
    RequireConnected("ncclCommFinalize");
    stream_->Synchronize();
    has_ended_ = true;
  }
  void Check() override {}
  void Abort() override { has_ended_ = true; }

 private:
  void RequireConnected(const char* call) const {
    if (has_ended_) throw Error(ExitCode::kPeer, fmt::format("{}: the group has ended", call));
  }

  const NcclGroupOptions options_;
  const std::unique_ptr<Stream> stream_;
  std::atomic<bool> has_ended_ = false;
};

}  // namespace
}  // namespace convoy

CONVOY_CUDA_MODULE_FUNCTION int convoy_nccl_version() { return convoy::kVersion; }

CONVOY_CUDA_MODULE_FUNCTION void convoy_nccl_make_id(convoy::NcclId&) {}

CONVOY_CUDA_MODULE_FUNCTION convoy::NcclGroup* convoy_nccl_make_group(
    const convoy::NcclGroupOptions& options) {
  using namespace convoy;
  if (options.size > 1) {
    throw Error(ExitCode::kDevice, "the emulated device has NCCL for one rank only",
                "give --communicator mpi, or --share-device on where the ranks share one device");
  }
  return std::make_unique<OneRankGroup>(options).release();
}
