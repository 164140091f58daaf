#include "trainer/step/sharded_state.h"

#include <vector>

namespace convoy {
namespace {

// Gathers the ranks' parts of every sharded bucket of `arena`, each in its place.
void GatherBuckets(const RankPlan& plan, const Tensor& arena, Stream& stream, ProcessGrid& grid) {
  for (const BucketRange& bucket : PlanBuckets(plan)) {
    if (!bucket.is_sharded) continue;
    grid.Along(bucket.axes)
        .AllGatherInPlace(stream, arena.Range(bucket.begin, bucket.count), "gathering state")
        .Wait(stream);
  }
}

void Copy(Stream& stream, const Tensor& from, const Tensor& to) {
  stream.Copy(to.data, from.data, from.bytes());
}

}  // namespace

void GatherMasterWeights(const RankPlan& plan, ParameterStore& store, Stream& stream,
                         ProcessGrid& grid) {
  if (!plan.options.shards_update) return;
  GatherBuckets(plan, store.parameters(), stream, grid);
}

Tensor WholeState(const RankPlan& plan, ParameterStore& store, size_t index, Stream& stream,
                  ProcessGrid& grid) {
  if (!plan.options.shards_update) return store.states()[index];
  for (const OwnedRange& own : OwnedRangesOf(plan)) {
    Copy(stream, store.states()[index].Range(own.state_begin, own.count),
         store.gradients().Range(own.begin, own.count));
  }
  GatherBuckets(plan, store.gradients(), stream, grid);
  return store.gradients();
}

Tensor RoomForState(const RankPlan& plan, ParameterStore& store, size_t index) {
  return plan.options.shards_update ? store.gradients() : store.states()[index];
}

void TakeState(const RankPlan& plan, ParameterStore& store, size_t index, Stream& stream) {
  if (!plan.options.shards_update) return;
  for (const OwnedRange& own : OwnedRangesOf(plan)) {
    Copy(stream, store.gradients().Range(own.begin, own.count),
         store.states()[index].Range(own.state_begin, own.count));
  }
}

}  // namespace convoy
