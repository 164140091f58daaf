#include "comm/grid_shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

namespace convoy {

std::string NameOf(Axes axes) {
  std::vector<const char*> names;
  if (axes.Contains(Axis::kReplica)) names.push_back("replicas");
  if (axes.Contains(Axis::kShard)) names.push_back("shards");
  if (axes.Contains(Axis::kTower)) names.push_back("towers");
  return names.empty() ? "one rank" : fmt::format("{}", fmt::join(names, " x "));
}

int GridPlace::At(Axis axis) const {
  switch (axis) {
    case Axis::kReplica:
      return replica;
    case Axis::kShard:
      return shard;
    case Axis::kTower:
      break;
  }
  return tower;
}

int GridShape::SizeOf(Axis axis) const {
  switch (axis) {
    case Axis::kReplica:
      return replicas;
    case Axis::kShard:
      return shards;
    case Axis::kTower:
      break;
  }
  return towers;
}

int GridShape::RanksAlong(Axes wanted) const {
  int ranks = 1;
  for (Axis axis : kAllAxes) ranks *= wanted.Contains(axis) ? SizeOf(axis) : 1;
  return ranks;
}

Axes GridShape::axes() const {
  Axes result;
  for (Axis axis : kAllAxes) {
    if (SizeOf(axis) > 1) result = result | axis;
  }
  return result;
}

GridPlace GridShape::PlaceOf(int rank) const {
  CONVOY_CHECK(rank >= 0 && rank < ranks(), "rank {} of {}", rank, ranks());
  return {.replica = rank / ranks_per_replica(),
          .shard = rank / towers % shards,
          .tower = rank % towers};
}

int GridShape::RankAlong(Axes wanted, const GridPlace& place) const {
  int rank = 0;
  for (Axis axis : kAllAxes) {
    if (wanted.Contains(axis)) rank = rank * SizeOf(axis) + place.At(axis);
  }
  return rank;
}

std::vector<int> GridShape::RanksWith(Axes wanted, const GridPlace& place) const {
  std::vector<int> result;
  for (int rank = 0; rank < ranks(); ++rank) {
    if (GroupOf(wanted, PlaceOf(rank)) == GroupOf(wanted, place)) result.push_back(rank);
  }
  return result;
}

int GridShape::GroupOf(Axes wanted, const GridPlace& place) const {
  constexpr Axes kEvery = Axis::kReplica | Axis::kShard | Axes(Axis::kTower);
  return RankAlong(kEvery - wanted, place);
}

void RequireTowers(int towers) {
  if (towers == 1 || towers == 2) return;
  throw Error(ExitCode::kUsage,
              fmt::format("--towers {}: expected 1 or 2, the paper's two", towers));
}

}  // namespace convoy
