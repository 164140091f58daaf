// comm/grid_shape.h - how the ranks are arranged; no communication here.
#pragma once

namespace convoy {

// replicas x towers ranks. The ranks of one replica are neighbours: rank = replica * towers +
// tower.
struct GridShape {
  int replicas = 1;
  int towers = 1;
  int ranks() const { return replicas * towers; }
};

}  // namespace convoy
