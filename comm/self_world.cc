#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/comm.h"
#include "comm/progress.h"

namespace convoy {
namespace {

class SelfCommunicator final : public CollectiveCommunicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

 private:
  Request Submit(Stream& stream, const Collective& collective) override {
    const Tensor& from = collective.send;
    const Tensor& to = collective.receive;
    if (from && to && from.data != to.data) {
      stream.Synchronize();
      std::memcpy(to.data, from.data, static_cast<size_t>(to.bytes()));
    }
    return {};
  }
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
    return fmt::format("rank 0 ({}): step {}", hosts_[0], step_);
  }
  void Abort(ExitCode exit_code) override { std::_Exit(static_cast<int>(exit_code)); }

 private:
  const std::vector<std::string> hosts_{HostName()};
  SelfCommunicator all_;
  int64_t step_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator() {
  return std::make_unique<SelfCommunicator>();
}

std::unique_ptr<World> MakeSelfWorld() { return std::make_unique<SelfWorld>(); }

}  // namespace convoy
