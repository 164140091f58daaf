// comm/grid_shape.h - how the ranks are arranged; no communication here.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace convoy {

// In what ranks may differ from each other. Replicas hold the whole network and different images.
// The shards of a replica hold different images too, and each a part of every fully connected layer
// (arXiv 1404.5997). The towers of a shard hold the same images and different channels (the paper,
// section 3.5).
enum class Axis : uint8_t { kReplica, kShard, kTower };

// A set of axes: the ranks that differ from each other only along these.
class Axes {
 public:
  constexpr Axes() = default;
  constexpr Axes(Axis axis) : bits_(static_cast<uint8_t>(1U << static_cast<unsigned>(axis))) {}

  constexpr bool Contains(Axis axis) const { return (bits_ & Axes(axis).bits_) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  friend constexpr Axes operator|(Axes a, Axes b) { return FromBits(a.bits_ | b.bits_); }
  // Returns the axes of `a` that `b` lacks.
  friend constexpr Axes operator-(Axes a, Axes b) { return FromBits(a.bits_ & ~b.bits_); }
  constexpr bool operator==(const Axes&) const = default;

 private:
  static constexpr Axes FromBits(int bits) {
    Axes axes;
    axes.bits_ = static_cast<uint8_t>(bits);
    return axes;
  }
  uint8_t bits_ = 0;
};
constexpr Axes operator|(Axis a, Axis b) { return Axes(a) | Axes(b); }

inline constexpr std::array<Axis, 3> kAllAxes{Axis::kReplica, Axis::kShard, Axis::kTower};

// Returns "replicas", "shards x towers"; "one rank" for none.
std::string NameOf(Axes axes);

// Where a rank stands.
struct GridPlace {
  int replica = 0, shard = 0, tower = 0;
  int At(Axis axis) const;
  bool operator==(const GridPlace&) const = default;
};

// replicas x shards x towers ranks. The ranks of one replica are neighbours: rank = (replica *
// shards + shard) * towers + tower.
struct GridShape {
  int replicas = 1;
  int shards = 1;
  int towers = 1;

  int ranks() const { return replicas * shards * towers; }
  // Ranks that hold parts of one network.
  int ranks_per_replica() const { return shards * towers; }
  // Ranks that the images of a global batch are divided between; their towers hold the same ones.
  int row_parts() const { return replicas * shards; }
  int SizeOf(Axis axis) const;
  // How many ranks differ only along `axes`, this one included.
  int RanksAlong(Axes axes) const;
  // The axes along which there is more than one rank.
  Axes axes() const;
  // Returns `axes` without those along which there is only one rank.
  Axes Effective(Axes wanted) const { return wanted - (wanted - axes()); }

  GridPlace PlaceOf(int rank) const;
  // Returns the place of `rank` among the ranks that differ only along `axes`, in their order.
  int RankAlong(Axes axes, const GridPlace& place) const;
  // Returns the ranks that differ from the one at `place` only along `axes`, itself included.
  std::vector<int> RanksWith(Axes axes, const GridPlace& place) const;
  // Returns the same number for all ranks that differ only along `axes`, and another for the rest.
  int GroupOf(Axes axes, const GridPlace& place) const;
};

// Throws (kUsage) unless a network can be cut between so many ranks.
void RequireTowers(int towers);

}  // namespace convoy
