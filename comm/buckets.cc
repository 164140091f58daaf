#include "comm/buckets.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "comm/communicator.h"
#include "core/tensor/arena.h"

namespace convoy {
namespace {

using Range = GradientBuckets::Range;

// Returns the elements that lie in both; their count is 0 if there are none.
Range Intersect(const Range& a, const Range& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  const int64_t end = std::min(a.begin + a.count, b.begin + b.count);
  return {begin, std::max<int64_t>(0, end - begin)};
}
Range RangeOf(const Bucket& bucket) { return {bucket.begin, bucket.count}; }

}  // namespace

struct GradientBuckets::State {
  enum class Phase { kIdle, kFilling, kReducing };
  // A range of the arena that is reduced by one request.
  struct Reduction {
    Tensor values;
    Tensor wire;  // empty: `values` itself travels
    Request request;
  };

  Phase phase = Phase::kIdle;
  int64_t expected = 0, ready = 0, released = 0;  // elements
  std::vector<Range> ranges;                      // what is reduced in this step
  Buffer wire;                                    // bf16, of the whole bucket
  std::vector<Reduction> reductions;
};

std::vector<Range> GradientBuckets::Joined(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> joined;
  for (const Range& range : ranges) {
    const bool follows =
        !joined.empty() &&
        range.begin - joined.back().begin - joined.back().count < ArenaLayout::kAlignmentElements;
    if (follows) {
      joined.back().count = range.begin + range.count - joined.back().begin;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

GradientBuckets::GradientBuckets(std::vector<Bucket> buckets, const Tensor& gradients,
                                 const BucketOptions& options)
    : buckets_(std::move(buckets)),
      gradients_(gradients),
      options_(options),
      states_(buckets_.size()) {
  CONVOY_CHECK(options.wire == DType::kFloat32 || options.wire == DType::kBFloat16,
               "gradients do not travel as {}", NameOf(options.wire));
  const bool converts = options.wire == DType::kBFloat16 && gradients.dtype == DType::kFloat32;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const Bucket& bucket = buckets_[i];
    CONVOY_CHECK(bucket.group != nullptr, "bucket {} has no group", bucket.name);
    gradients.Range(bucket.begin, bucket.count);  // checks the bounds
    CONVOY_CHECK(!bucket.scatters || bucket.count % bucket.group->size() == 0,
                 "bucket {} of {} elements for {} ranks", bucket.name, bucket.count,
                 bucket.group->size());
    for (size_t j = 0; j < i; ++j) {
      CONVOY_CHECK(Intersect(RangeOf(bucket), RangeOf(buckets_[j])).count == 0,
                   "buckets {} and {} overlap", buckets_[j].name, bucket.name);
    }
    if (converts && !bucket.group->is_trivial()) {
      states_[i].wire = options.allocate_wire(bucket.count * SizeOf(DType::kBFloat16));
    }
  }
}

GradientBuckets::~GradientBuckets() = default;

void GradientBuckets::Begin(const std::vector<Range>& ranges, std::function<void(int)> finished) {
  finished_ = std::move(finished);
  for (size_t i = 0; i < buckets_.size(); ++i) {
    State& state = states_[i];
    CONVOY_CHECK(state.phase == State::Phase::kIdle, "nobody waited for bucket {}",
                 buckets_[i].name);
    state.expected = state.ready = state.released = 0;
    state.ranges.clear();
    for (const Range& range : ranges) {
      const Range own = Intersect(range, RangeOf(buckets_[i]));
      if (own.count == 0) continue;
      state.expected += own.count;
      state.ranges.push_back(own);
    }
    if (state.expected > 0) state.phase = State::Phase::kFilling;
    state.ranges = Joined(std::move(state.ranges));
  }
}

void GradientBuckets::Abandon() {
  for (State& state : states_) {
    state.reductions.clear();
    state.phase = State::Phase::kIdle;
  }
}

void GradientBuckets::GradientReady(Stream& stream, int64_t begin, int64_t count) {
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const Range own = Intersect({begin, count}, RangeOf(buckets_[i]));
    if (own.count == 0) continue;
    State& state = states_[i];
    state.ready += own.count;
    CONVOY_CHECK(state.phase == State::Phase::kFilling && state.ready <= state.expected,
                 "gradients {}+{} of bucket {} were not announced", begin, count, buckets_[i].name);
    if (state.ready == state.expected && options_.overlap == Overlap::kOn) Start(stream, i);
    CallIfFinished(i);
  }
}

void GradientBuckets::WeightsReleased(int64_t begin, int64_t count) {
  for (size_t i = 0; i < buckets_.size(); ++i) {
    State& state = states_[i];
    int64_t own = 0;
    for (const Range& range : state.ranges) own += Intersect({begin, count}, range).count;
    if (own == 0) continue;
    state.released += own;
    CONVOY_CHECK(state.released <= state.expected, "weights {}+{} of bucket {} released twice",
                 begin, count, buckets_[i].name);
    CallIfFinished(i);
  }
}

void GradientBuckets::CallIfFinished(size_t index) {
  const State& state = states_[index];
  const bool is_finished = state.ready == state.expected && state.released == state.expected;
  if (is_finished && finished_) finished_(static_cast<int>(index));
}

void GradientBuckets::Start(Stream& stream, size_t index) {
  const Bucket& bucket = buckets_[index];
  State& state = states_[index];
  state.phase = State::Phase::kReducing;
  state.reductions.clear();
  if (bucket.group->is_trivial()) return;
  const std::vector<Range> whole{RangeOf(bucket)};
  for (const Range& range : bucket.scatters ? whole : state.ranges) {
    State::Reduction& reduction = state.reductions.emplace_back();
    reduction.values = gradients_.Range(range.begin, range.count);
    if (state.wire) {
      reduction.wire = ViewOf(state.wire, DType::kBFloat16, {bucket.count})
                           .Range(range.begin - bucket.begin, range.count);
      options_.convert(stream, reduction.values, reduction.wire);
    }
    const Tensor travels = reduction.wire ? reduction.wire : reduction.values;
    if (!bucket.scatters) {
      reduction.request =
          bucket.group->AllReduce(stream, travels, ReduceOp::kSum, bucket.name.c_str());
      continue;
    }
    reduction.values = bucket.group->OwnBlockOf(reduction.values);
    if (reduction.wire) reduction.wire = bucket.group->OwnBlockOf(reduction.wire);
    reduction.request = bucket.group->ReduceScatter(
        stream, travels, bucket.group->OwnBlockOf(travels), bucket.name.c_str());
  }
}

void GradientBuckets::RequireReady(int index) const {
  const auto i = static_cast<size_t>(index);
  const State& state = states_.at(i);
  CONVOY_CHECK(state.ready == state.expected, "bucket {} has {} of {} gradients", buckets_[i].name,
               state.ready, state.expected);
}

void GradientBuckets::Wait(Stream& stream, int index) {
  const auto i = static_cast<size_t>(index);
  State& state = states_.at(i);
  if (state.phase == State::Phase::kIdle) return;
  RequireReady(index);
  if (state.phase == State::Phase::kFilling) Start(stream, i);
  state.phase = State::Phase::kIdle;
  for (State::Reduction& reduction : state.reductions) {
    reduction.request.Wait(stream);
    if (reduction.wire) options_.convert(stream, reduction.wire, reduction.values);
  }
}

}  // namespace convoy
