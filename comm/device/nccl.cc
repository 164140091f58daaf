#include "comm/device/nccl.h"

#include <exception>
#include <utility>

#include "comm/grid.h"

namespace convoy {
namespace {

// How long NCCL may take to abort.
constexpr double kAbortSeconds = 2;

class NcclOperation final : public Request::Operation {
 public:
  explicit NcclOperation(NcclGroup::Queued queued)
      : queued_(std::move(queued)), exceptions_(std::uncaught_exceptions()) {}

  // The tensors are in use until the collective is done. A rank that is failing does not wait for
  // its peers: its communicator is aborted next.
  ~NcclOperation() override {
    if (waited_ || queued_.recorded || std::uncaught_exceptions() > exceptions_) return;
    try {
      queued_.done->Synchronize();
    } catch (const Error&) {
      // The device has failed; the next call on it says so.
    }
  }

  void Wait(Stream& stream) override {
    waited_ = true;
    if (stream.device().kind != DeviceKind::kCpu) return stream.WaitFor(*queued_.done);
    CONVOY_CHECK(!queued_.recorded, "the host waits for a collective that is being recorded");
    queued_.done->Synchronize();
  }
  // Wait() never blocks but for a host stream.
  bool Done() override { return !queued_.recorded && queued_.done->Reached(); }

 private:
  const NcclGroup::Queued queued_;
  const int exceptions_;
  bool waited_ = false;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclGroup> group, Communicator& host, Watchdog& watchdog,
                   const NcclOptions& options)
      : group_(std::move(group)),
        host_(host),
        step_(options.step),
        membership_(watchdog, group_),
        exceptions_(std::uncaught_exceptions()) {}

  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() <= exceptions_) {
      try {
        group_->Finalise();
        return;
      } catch (const Error&) {
        // A peer is gone, or the group was given up.
      }
    }
    AbortAll({group_}, kAbortSeconds);
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  void GiveUp(const std::string&) override { AbortAll({group_}, kAbortSeconds); }
  bool queues_on_device() const override { return true; }
  Buffer AllocateRegistered(int64_t bytes) override { return group_->AllocateRegistered(bytes); }

 private:
  Request Submit(Stream& stream, const Collective& collective) override {
    if (!collective.traits().moves_data) {
      HostStream host_stream;
      host_.Run(host_stream, collective).Wait(host_stream);
      return {};
    }
    NcclGroup::Queued queued = group_->Queue(stream, collective);
    if (!queued.recorded) membership_.Add(collective.what, step_(), queued.done);
    return Request(std::make_unique<NcclOperation>(std::move(queued)));
  }

  const std::shared_ptr<NcclGroup> group_;
  Communicator& host_;
  const std::function<int64_t()> step_;
  Watchdog::Membership membership_;
  const int exceptions_;
};

NcclId SharedId(Communicator& host) {
  NcclId id;
  if (host.rank() == 0) CONVOY_FROM_CUDA_MODULE(convoy_nccl_make_id)(id);
  HostStream stream;
  const Tensor bytes{id.bytes.data(), DType::kUInt8, {static_cast<int64_t>(id.bytes.size())}};
  host.Broadcast(stream, bytes, 0, "id of an NCCL group").Wait(stream);
  return id;
}

}  // namespace

int NcclVersion() { return CONVOY_FROM_CUDA_MODULE(convoy_nccl_version)(); }

std::string NameOfNcclVersion(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

std::unique_ptr<Communicator> MakeNccl(Communicator& host, Watchdog& watchdog,
                                       const NcclOptions& options) {
  const NcclId id = SharedId(host);
  const NcclGroupOptions of_rank{.name = options.name,
                                 .rank = host.rank(),
                                 .size = host.size(),
                                 .device = options.device,
                                 .deadline_s = options.deadline_s};
  const std::shared_ptr<NcclGroup> group(CONVOY_FROM_CUDA_MODULE(convoy_nccl_make_group)(of_rank));
  try {
    group->Connect(id);
  } catch (...) {
    AbortAll({group}, kAbortSeconds);
    throw;
  }
  return MakeNcclOf(group, host, watchdog, options);
}

std::unique_ptr<Communicator> MakeNcclOf(std::shared_ptr<NcclGroup> group, Communicator& host,
                                         Watchdog& watchdog, const NcclOptions& options) {
  return std::make_unique<NcclCommunicator>(std::move(group), host, watchdog, options);
}

}  // namespace convoy
