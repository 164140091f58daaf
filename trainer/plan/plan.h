// trainer/plan/plan.h - a parallel plan: the network's list of layers rewritten for one rank.
//
// Three cuts, which combine (comm/grid_shape.h). Replicas hold the whole network and take their
// parts of the global batch. The towers of a replica hold a slice of every layer's channels, as the
// paper's two GPUs did (section 3.5); if a layer reads all channels of the layer before, they
// exchange activations, and only tower 0 has the classifier and the loss. The shards of a replica
// run the convolutions on images of their own; then each gets the rows of all of them, and computes
// a slice of every fully connected layer's outputs (arXiv 1404.5997, scheme a).
//
// A plan is data: no device, no communicator, no MPI in it. program.h makes the list of a step's
// operations of it.
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
  // The ranks that differ from this one only along these axes hold the same slice; its gradient is
  // summed over them.
  Axes copies;
  Shape LocalShape() const { return uncut.shape.With(0, count); }
  // A bias, or of batch norm: a value per channel, which layers may read in full precision.
  bool is_small() const { return uncut.shape.rank() == 1; }
};
struct BufferSlice {
  BufferInfo uncut;
  int64_t begin = 0, count = 0;
  Axes copies;
  Shape LocalShape() const { return uncut.shape.With(0, count); }
};

enum class ExchangeKind {
  kAllGather,      // every rank gets the whole; backward: reduce-scatter of its gradients
  kGatherCopies,   // every rank gets the whole and computes the same from it; backward: each takes
                   // its own part of the gradient, and nothing is sent
  kGatherToOwner,  // only the first rank gets it; backward: scatter
};

// What moves between two segments. The ranks along `axes` have row_parts x channel_parts parts of
// the whole: rank i * channel_parts + j has the rows of shard i, or all rows, and the channels of
// ShareOf(channels, channel_parts, j).
struct Exchange {
  ExchangeKind kind = ExchangeKind::kAllGather;
  std::string name;  // "pool2 to conv3"
  Axes axes;
  int reader_index = 0;  // in the uncut network: the first layer that reads the whole
  int row_parts = 1, channel_parts = 1;
  // The rows of so many shards are in each part.
  int shards_per_part = 1;
  Shape part;   // what this rank has of one row
  Shape whole;  // one row of what is gathered
  // Elements of one row that a part has room for: that of the largest.
  int64_t PartCapacity() const;
  // Elements that a tower sends to another per image, forward; backward is the same the other way.
  int64_t elements_sent() const { return part.count(); }
};

struct SegmentPlan {
  SegmentSpec spec;
  int shards = 1;   // it runs the rows of so many shards: its own, or those of all
  Axes statistics;  // the ranks along these see the other rows: batch norm sums over them
};

using Stage = std::variant<SegmentPlan, Exchange>;

// Whether each rank updates only a part of the parameters that others hold too.
enum class ShardUpdate {
  kAuto,  // if it was measured to be faster: between ranks of one host that compute on CPUs
  kOn,
  kOff
};

struct PlanOptions {
  // Every rank updates a part of each bucket, and has only this part of the optimiser's states:
  // gradients are reduce-scattered, and updated parameters gathered.
  bool shards_update = false;
};

// Elements [begin, begin + count) of the parameter arena that this rank updates; their states lie
// from `state_begin` in an arena of their own.
struct OwnedRange {
  int64_t begin = 0, count = 0, state_begin = 0;
};

struct RankPlan {
  NetworkSpec network;  // uncut
  GridShape grid;
  GridPlace place;
  PlanOptions options;
  // In forward order. A rank without the loss ends in an Exchange, and between two of them one that
  // has no share of the layers has no segment.
  std::vector<Stage> stages;
  // In the order of the arena: forward order. If the update is sharded, small ones come after the
  // others: every rank updates all of them.
  std::vector<ParameterSlice> parameters;
  std::vector<BufferSlice> buffers;
  bool has_loss = false;  // it computes the loss of its replica's rows; others may too

  // The rank's arenas: local shapes, in the order of `parameters` and `buffers`.
  ArenaLayout ParameterLayout() const;
  ArenaLayout BufferLayout() const;
  int64_t ParameterCount() const;
  // Whether this is the first of the ranks along `copies`: the one that writes what all of them
  // hold.
  bool IsFirstAlong(Axes copies) const { return grid.RankAlong(copies, place) == 0; }
  // Whether a segment of this rank reads the result of every all-gather; otherwise the rank has
  // nothing to add to the sum of its gradients.
  bool HasSegmentAfterEverySum() const;
  // Whether this rank's loss is the one that counts, of those of its replica.
  bool counts_loss() const { return has_loss && IsFirstAlong(Axis::kShard | Axis::kTower); }
};

// The plan of `rank`. Throws (kUsage) naming the layer that cannot be cut, or when `towers` is
// neither 1 nor 2.
RankPlan MakePlan(const NetworkSpec& network, const GridShape& grid, int rank,
                  const PlanOptions& options = {});

// The axes that cut a parameter of the uncut network: the ranks along them hold its parts.
// In the network's order; the same on every rank.
struct ParameterCut {
  ParameterInfo uncut;
  Axes axes;
};
std::vector<ParameterCut> CutsOf(const NetworkSpec& network, const GridShape& grid);

// Elements that tower `from` sends to tower `to` per image in the forward pass, by exchange.
struct ExchangeTraffic {
  std::string name;
  int from = 0, to = 0;
  int64_t elements = 0;
};
std::vector<ExchangeTraffic> ForwardTraffic(const NetworkSpec& network, const GridShape& grid);

// A range of the parameter arena that is reduced and updated as one.
struct BucketRange {
  std::string name;  // "fc7..fc8"
  int64_t begin = 0, count = 0;
  Axes axes;  // over which its gradients are summed
  // The ranks along the axes update a part each: equal ones, in their order.
  bool is_sharded = false;
  int lowest_layer = 0;  // with a parameter in it: the one that completes it
};
// In the order in which backward completes them: the fully connected layers after the first, the
// first of them, the rest.
std::vector<BucketRange> PlanBuckets(const RankPlan& plan);
// What this rank updates, in the order of PlanBuckets.
std::vector<OwnedRange> OwnedRangesOf(const RankPlan& plan);
// Elements of each of the optimiser's states on this rank.
int64_t StateCountOf(const RankPlan& plan);

}  // namespace convoy
