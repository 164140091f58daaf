// tests/comm/group_world.h - a world with another kind of groups, so that the checks of worlds run
// over it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "comm/world.h"

namespace convoy {

class GroupWorld final : public World {
 public:
  // Makes a group as World::Split does.
  using MakeGroup =
      std::function<std::unique_ptr<Communicator>(const std::string& name, int colour, int key)>;

  GroupWorld(World& host, MakeGroup make_group)
      : host_(host), make_group_(std::move(make_group)), all_(Split("all", 0, host.rank())) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  const std::vector<std::string>& hosts() const override { return host_.hosts(); }
  int local_rank() const override { return host_.local_rank(); }
  int local_size() const override { return host_.local_size(); }
  int processor_sharers() const override { return host_.processor_sharers(); }
  std::string Describe() const override { return host_.Describe(); }
  Communicator& all() override { return *all_; }
  std::unique_ptr<Communicator> Split(const std::string& name, int colour, int key) override {
    return make_group_(name, colour, key);
  }
  void SetStep(int64_t step) override { host_.SetStep(step); }
  int64_t step() const override { return host_.step(); }
  std::string DescribeProgress() override { return host_.DescribeProgress(); }
  void Abort(ExitCode exit_code) override { host_.Abort(exit_code); }

 private:
  World& host_;
  const MakeGroup make_group_;
  const std::unique_ptr<Communicator> all_;
};

}  // namespace convoy
