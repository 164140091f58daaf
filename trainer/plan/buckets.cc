// What lies where in a rank's arenas, and which ranges are reduced and updated together.
#include <algorithm>
#include <limits>

#include "trainer/plan/plan.h"

namespace convoy {
namespace {

// Neighbours in RankPlan::parameters that make one bucket.
struct BucketMembers {
  size_t first = 0, end = 0;
  bool is_sharded = false;
};

bool IsFullyConnected(const RankPlan& plan, size_t parameter) {
  const auto layer = static_cast<size_t>(plan.parameters[parameter].layer_index);
  return std::holds_alternative<FullyConnected>(plan.network.layers[layer].layer);
}

// In the order of the arena. A bucket begins with the first and with the second fully connected
// layer, and where other ranks hold copies. All small tensors that the same ranks hold are one if
// the update is sharded.
std::vector<BucketMembers> MembersOfBuckets(const RankPlan& plan) {
  std::vector<BucketMembers> buckets;
  const bool shards = plan.options.shards_update;
  int fully_connected_layers = 0;
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    const ParameterSlice& slice = plan.parameters[i];
    const bool is_apart = shards && slice.is_small();
    bool begins = i == 0;
    if (i > 0) {
      const ParameterSlice& before = plan.parameters[i - 1];
      begins = before.copies != slice.copies || (is_apart && !before.is_small());
    }
    const bool starts_layer = i == 0 || plan.parameters[i - 1].layer_index != slice.layer_index;
    if (!is_apart && starts_layer && IsFullyConnected(plan, i)) {
      begins |= ++fully_connected_layers <= 2;
    }
    if (begins) {
      buckets.push_back(
          {.first = i,
           .end = i,
           .is_sharded = shards && !is_apart && plan.grid.RanksAlong(slice.copies) > 1});
    }
    buckets.back().end = i + 1;
  }
  return buckets;
}

}  // namespace

ArenaLayout RankPlan::ParameterLayout() const {
  ArenaLayout layout;
  for (const BucketMembers& bucket : MembersOfBuckets(*this)) {
    const int64_t begin = layout.count();
    for (size_t i = bucket.first; i < bucket.end; ++i) {
      layout.Add(parameters[i].uncut.name, parameters[i].LocalShape());
    }
    if (!bucket.is_sharded) continue;
    // The ranks' parts are equal, and each begins where a tensor could.
    const int64_t parts =
        grid.RanksAlong(parameters[bucket.first].copies) * ArenaLayout::kAlignmentElements;
    layout.Skip(RoundUp(layout.count() - begin, parts) - (layout.count() - begin));
  }
  return layout;
}

ArenaLayout RankPlan::BufferLayout() const {
  ArenaLayout layout;
  for (const BufferSlice& slice : buffers) layout.Add(slice.uncut.name, slice.LocalShape());
  return layout;
}

std::vector<BucketRange> PlanBuckets(const RankPlan& plan) {
  const ArenaLayout layout = plan.ParameterLayout();
  const std::vector<BucketMembers> all = MembersOfBuckets(plan);
  std::vector<BucketRange> buckets;
  for (size_t b = 0; b < all.size(); ++b) {
    const BucketMembers& members = all[b];
    const int64_t begin = layout.entries()[members.first].offset;
    const int64_t stop =
        b + 1 < all.size() ? layout.entries()[all[b + 1].first].offset : layout.count();
    int lowest = std::numeric_limits<int>::max(), highest = 0;
    for (size_t i = members.first; i < members.end; ++i) {
      lowest = std::min(lowest, plan.parameters[i].layer_index);
      highest = std::max(highest, plan.parameters[i].layer_index);
    }
    const auto layer_name = [&](int layer) {
      return plan.network.layers[static_cast<size_t>(layer)].name;
    };
    std::string name = layer_name(lowest);
    if (highest > lowest) name += ".." + layer_name(highest);
    const bool is_apart = plan.options.shards_update && plan.parameters[members.first].is_small();
    if (is_apart) name += " small";
    buckets.push_back({.name = name,
                       .begin = begin,
                       .count = stop - begin,
                       .axes = plan.parameters[members.first].copies,
                       .is_sharded = members.is_sharded,
                       .lowest_layer = lowest});
  }
  std::stable_sort(buckets.begin(), buckets.end(), [](const BucketRange& a, const BucketRange& b) {
    return a.lowest_layer > b.lowest_layer;
  });
  return buckets;
}

std::vector<OwnedRange> OwnedRangesOf(const RankPlan& plan) {
  if (!plan.options.shards_update) {
    return {{.begin = 0, .count = plan.ParameterLayout().count(), .state_begin = 0}};
  }
  std::vector<OwnedRange> ranges;
  int64_t states = 0;
  for (const BucketRange& bucket : PlanBuckets(plan)) {
    OwnedRange own{.begin = bucket.begin, .count = bucket.count, .state_begin = states};
    if (bucket.is_sharded) {
      own.count /= plan.grid.RanksAlong(bucket.axes);
      own.begin += own.count * plan.grid.RankAlong(bucket.axes, plan.place);
    }
    states += own.count;
    ranges.push_back(own);
  }
  return ranges;
}

int64_t StateCountOf(const RankPlan& plan) {
  const OwnedRange last = OwnedRangesOf(plan).back();
  return last.state_begin + last.count;
}

}  // namespace convoy
