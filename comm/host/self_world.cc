#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/host/progress.h"
#include "comm/host/rank_group.h"
#include "comm/world.h"

namespace convoy {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  explicit SelfCommunicator(Device device) : device_(device) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  void GiveUp(const std::string&) override {}
  bool queues_on_device() const override { return device_.kind != DeviceKind::kCpu; }
  bool is_trivial() const override { return true; }

 private:
  Request Submit(Stream& stream, const Collective& collective) override {
    const Tensor& from = collective.send;
    const Tensor& to = collective.receive;
    if (!from || !to || from.data == to.data) return {};
    CONVOY_CHECK(!queues_on_device() || stream.device() == device_,
                 "{}: memory of {}, stream of {}", collective.what, ToString(device_),
                 ToString(stream.device()));
    stream.Copy(to.data, from.data, to.bytes());
    if (!queues_on_device()) stream.Synchronize();
    return {};
  }

  const Device device_;
};

class SelfWorld final : public World {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::vector<std::string>& hosts() const override { return hosts_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  int processor_sharers() const override { return 1; }
  std::string Describe() const override { return "one rank, without MPI"; }
  Communicator& all() override { return all_; }
  std::unique_ptr<Communicator> Split(const std::string&, int, int) override {
    return MakeSelfCommunicator();
  }
  void SetStep(int64_t step) override { step_ = step; }
  int64_t step() const override { return step_; }
  std::string DescribeProgress() override {
    return fmt::format("rank 0 ({}): step {}", hosts_[0], step());
  }
  void Abort(ExitCode exit_code) override { std::_Exit(static_cast<int>(exit_code)); }

 private:
  const std::vector<std::string> hosts_{HostName()};
  SelfCommunicator all_{Device{}};
  std::atomic<int64_t> step_{0};  // another thread may describe the progress
};

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator(Device device) {
  return std::make_unique<SelfCommunicator>(device);
}

std::unique_ptr<World> MakeSelfWorld() { return std::make_unique<SelfWorld>(); }

}  // namespace convoy
