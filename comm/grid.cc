#include "comm/comm.h"

namespace convoy {

ProcessGrid::ProcessGrid(World& world, const GridShape& shape) : shape_(shape) {
  if (shape.replicas < 1 || shape.towers < 1) {
    throw Error(ExitCode::kUsage, fmt::format("{} replicas of {} towers: both must be at least 1",
                                              shape.replicas, shape.towers));
  }
  if (world.size() != shape.ranks()) {
    throw Error(ExitCode::kUsage,
                fmt::format("--replicas {} with --towers {} needs {} ranks, but there are {}",
                            shape.replicas, shape.towers, shape.ranks(), world.size()),
                fmt::format("start it with mpirun -n {}, or give other numbers", shape.ranks()));
  }
  replica_ = world.rank() / shape.towers;
  tower_ = world.rank() % shape.towers;
  replicas_ = world.Split("replicas", tower_, replica_);
  towers_ = world.Split("towers", replica_, tower_);
}

}  // namespace convoy
