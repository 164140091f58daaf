// trainer/plan/plan.h - a parallel plan: the network's list of layers rewritten for one rank.
//
// Two cuts, which combine. `replicas`: every replica holds the whole network and takes its part of
// the global batch. `towers`: the ranks of one replica hold a slice of every layer's channels, as
// the paper's two GPUs did (section 3.5); if a layer reads all channels of the layer before, the
// ranks exchange activations, and only tower 0 has the classifier and the loss.
//
// A plan is data: no device, no communicator, no MPI in it. `passes` and `update_period` are 1
// until a cut needs them (the hybrid of arXiv 1404.5997 runs its fully connected layers several
// times a step).
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "comm/grid_shape.h"
#include "core/tensor/arena.h"
#include "layers/analysis.h"
#include "layers/network.h"

namespace convoy {

// Rows [begin, begin + count) of the outermost dimension of an uncut tensor.
struct ParameterSlice {
  ParameterInfo uncut;
  int layer_index = 0;  // in the uncut network
  int64_t begin = 0, count = 0;
  Shape LocalShape() const { return uncut.shape.With(0, count); }
};
struct BufferSlice {
  BufferInfo uncut;
  int64_t begin = 0, count = 0;
  Shape LocalShape() const { return uncut.shape.With(0, count); }
};

enum class ExchangeKind {
  kAllGather,      // every tower gets all channels; backward: reduce-scatter of their gradients
  kGatherToOwner,  // only tower `owner` gets them; backward: scatter
};

// What moves between two segments. Shapes are of one sample.
struct Exchange {
  ExchangeKind kind = ExchangeKind::kAllGather;
  std::string name;  // "pool2 to conv3"
  int owner = 0;
  Shape part;   // what this rank has
  Shape whole;  // what is gathered
  // Elements that one tower sends to one other tower per image, forward; backward is the same the
  // other way.
  int64_t elements_sent() const { return part.count(); }
};

struct SegmentPlan {
  SegmentSpec spec;
  int passes = 1;         // forward and backward runs per step
  int update_period = 1;  // passes per update
};

using Stage = std::variant<SegmentPlan, Exchange>;

struct RankPlan {
  NetworkSpec network;  // uncut
  GridShape grid;
  int replica = 0, tower = 0;
  std::vector<Stage> stages;  // in forward order; a rank without the loss ends in an Exchange
  std::vector<ParameterSlice> parameters;
  std::vector<BufferSlice> buffers;
  bool owns_loss = false;

  // The rank's arenas: local shapes, in forward order.
  ArenaLayout ParameterLayout() const;
  ArenaLayout BufferLayout() const;
  int64_t ParameterCount() const;
};

// The plan of `rank`. Throws (kUsage) naming the layer that cannot be cut, or when `towers` is
// neither 1 nor 2.
RankPlan MakePlan(const NetworkSpec& network, const GridShape& grid, int rank);

// Elements that tower `from` sends to tower `to` per image in the forward pass, by exchange.
struct ExchangeTraffic {
  std::string name;
  int from = 0, to = 0;
  int64_t elements = 0;
};
std::vector<ExchangeTraffic> ForwardTraffic(const NetworkSpec& network, const GridShape& grid);

// Ranges of the parameter arena that are reduced over the replicas as one, in the order in which
// backward completes them: the fully connected layers after the first, the first of them, the rest.
struct BucketRange {
  std::string name;  // "fc7..fc8"
  int64_t begin = 0, count = 0;
};
std::vector<BucketRange> PlanBuckets(const RankPlan& plan);

}  // namespace convoy
