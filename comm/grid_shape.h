// comm/grid_shape.h - how the ranks are arranged; no communication here.
#pragma once

#include "core/error.h"

namespace convoy {

// replicas x towers ranks. The ranks of one replica are neighbours: rank = replica * towers +
// tower.
struct GridShape {
  int replicas = 1;
  int towers = 1;
  int ranks() const { return replicas * towers; }
};

// Throws (kUsage) unless a network can be cut between so many ranks.
inline void RequireTowers(int towers) {
  if (towers == 1 || towers == 2) return;
  throw Error(ExitCode::kUsage,
              fmt::format("--towers {}: expected 1 or 2, the paper's two", towers));
}

}  // namespace convoy
