#include "trainer/plan/program_costs.h"

#include <algorithm>
#include <utility>

#include "comm/buckets.h"
#include "comm/traffic.h"
#include "core/tensor/batch.h"
#include "layers/updater.h"

namespace convoy {
namespace {

void AddTo(std::vector<CollectiveCost>& costs, const CollectiveCost& cost) {
  const auto same = std::find_if(costs.begin(), costs.end(), [&](const CollectiveCost& one) {
    return one.what == cost.what && one.kind == cost.kind && one.axes == cost.axes;
  });
  if (same == costs.end()) {
    costs.push_back(cost);
  } else {
    same->calls += cost.calls;
    same->bytes += cost.bytes;
  }
}

std::vector<bool> LayersWithParameters(const NetworkSpec& network) {
  std::vector<bool> result;
  for (const LayerSite& site : SitesOf(network)) result.push_back(!site.parameters.empty());
  return result;
}

// Whether an operation of the kind is in the list.
template <typename Kind>
bool Has(const StepProgram& program) {
  return std::any_of(program.begin(), program.end(), [](const StepOperation& operation) {
    return std::holds_alternative<Kind>(operation);
  });
}

class CostWalk {
 public:
  CostWalk(const RankPlan& plan, const std::vector<BucketRange>& buckets,
           const StepProgram& program, const CostOptions& options)
      : plan_(plan),
        buckets_(buckets),
        options_(options),
        learns_(options.learns.empty() ? LayersWithParameters(plan.network) : options.learns),
        trains_(Has<steps::Backward>(program)),
        needs_norms_(Has<steps::Norms>(program)) {}

  OperationCost Of(const StepOperation& operation) const {
    OperationCost cost{.operation = operation};
    std::visit([&](const auto& one) { Fill(one, cost); }, operation);
    return cost;
  }

 private:
  using Range = GradientBuckets::Range;

  void Fill(const steps::Load&, OperationCost& cost) const {
    cost.name = "load";
    cost.rows = options_.rows;
    const int64_t towers = plan_.grid.towers;
    if (!options_.loads_images || towers == 1) return;
    const int64_t own_rows = (options_.rows + towers - 1) / towers;
    const auto exchange = [&](const char* what, int64_t bytes_of_row) {
      Collect(what, CollectiveKind::kAllGather, Axis::kTower, own_rows * bytes_of_row,
              DType::kUInt8, cost.collectives);
    };
    exchange("crops", plan_.network.input.count());
    exchange("samples", sizeof(SampleInfo));
  }

  void Fill(const steps::GatherRows&, OperationCost& cost) const {
    cost.name = "gather rows";
    cost.rows = plan_.grid.shards * options_.rows;
    const auto gather = [&](const char* what, DType dtype) {
      Collect(what, CollectiveKind::kAllGather, Axis::kShard, options_.rows, dtype,
              cost.collectives);
    };
    gather("labels", DType::kInt32);
    gather("weights", DType::kFloat32);
    gather("positions", DType::kInt64);
  }

  void Fill(const steps::Forward& forward, OperationCost& cost) const {
    const SegmentPlan& segment = SegmentAt(forward.stage);
    cost.name = "forward " + NameOf(segment);
    cost.rows = segment.shards * options_.rows;
    for (const LayerSite& site : SitesOf(segment.spec)) {
      cost.forward_flops += FlopsOf(site, cost.rows);
      if (trains_) AddStatistics(segment, site, /*values=*/1, cost);
    }
  }

  void Fill(const steps::Backward& backward, OperationCost& cost) const {
    const SegmentPlan& segment = SegmentAt(backward.stage);
    cost.name = "backward " + NameOf(segment);
    cost.rows = segment.shards * options_.rows;
    // Gradients of activations are computed down to the lowest layer that learns.
    bool wants_data_gradient = LearnsBefore(segment.spec.items.front().uncut_index);
    const std::vector<LayerSite> sites = SitesOf(segment.spec);
    for (size_t i = 0; i < sites.size(); ++i) {
      const bool learns = Learns(segment.spec.items[i]) && !sites[i].parameters.empty();
      if (learns) cost.weight_gradient_flops += FlopsOf(sites[i], cost.rows);
      if (wants_data_gradient) {
        cost.data_gradient_flops += FlopsOf(sites[i], cost.rows);
        AddStatistics(segment, sites[i], /*values=*/0, cost);
      }
      wants_data_gradient |= learns;
    }
  }

  void Fill(const steps::MoveActivations& move, OperationCost& cost) const {
    const Exchange& exchange = std::get<Exchange>(StageAt(move.stage));
    const bool is_forward = move.direction == Direction::kForward;
    const int64_t rows_of_part = exchange.shards_per_part * options_.rows;
    cost.name = exchange.name + (is_forward ? " forward" : " backward");
    cost.rows = exchange.row_parts * rows_of_part;
    if (!is_forward && !LearnsBefore(exchange.reader_index)) return;
    const auto collect = [&](CollectiveKind kind, int64_t elements_of_row) {
      Collect(exchange.name, kind, exchange.axes, rows_of_part * elements_of_row, options_.dtype,
              cost.collectives);
    };
    switch (exchange.kind) {
      case ExchangeKind::kAllGather:
        collect(is_forward ? CollectiveKind::kAllGather : CollectiveKind::kReduceScatter,
                exchange.PartCapacity());
        break;
      case ExchangeKind::kGatherCopies:
        if (is_forward) collect(CollectiveKind::kAllGather, exchange.PartCapacity());
        break;
      case ExchangeKind::kGatherToOwner:
        collect(is_forward ? CollectiveKind::kGather : CollectiveKind::kScatter,
                exchange.part.count());
        break;
    }
  }

  void Fill(const steps::Reduce& reduce, OperationCost& cost) const {
    const BucketRange& bucket = BucketAt(reduce.bucket);
    cost.name = "reduce " + bucket.name;
    cost.stream = CostStream::kCommunication;
    const std::vector<Range> learning = LearningRanges(bucket);
    cost.parameters = CountOf(learning);
    const DType dtype =
        options_.master == DType::kFloat32 ? options_.reduce_dtype : options_.master;
    // Norms take all gradients on every rank, though each updates a part.
    if (bucket.is_sharded && !needs_norms_) {
      if (learning.empty()) return;
      Collect(bucket.name, CollectiveKind::kReduceScatter, bucket.axes, PartOf(bucket), dtype,
              cost.collectives);
      return;
    }
    for (const Range& range : GradientBuckets::Joined(learning)) {
      Collect(bucket.name, CollectiveKind::kAllReduce, bucket.axes, range.count, dtype,
              cost.collectives);
    }
  }

  // Sums the squares of gradients, and of weights.
  void Fill(const steps::Norms&, OperationCost& cost) const {
    cost.name = "norms";
    cost.parameters = plan_.ParameterCount();
    for (const NormRows& rows : NormRowsOf(plan_)) {
      for (int half = 0; half < 2; ++half) {
        Collect("norms", CollectiveKind::kAllReduce, rows.axes, rows.count, DType::kFloat64,
                cost.collectives);
      }
    }
  }

  void Fill(const steps::Update& update, OperationCost& cost) const {
    const BucketRange& bucket = BucketAt(update.bucket);
    cost.name = "update " + bucket.name;
    cost.stream = CostStream::kUpdate;
    const OwnedRange own = OwnedRangesOf(plan_).at(
        plan_.options.shards_update ? static_cast<size_t>(update.bucket) : 0);
    for (const Range& range : LearningRanges(bucket)) {
      const int64_t begin = std::max(range.begin, own.begin);
      const int64_t end = std::min(range.begin + range.count, own.begin + own.count);
      cost.parameters += std::max<int64_t>(0, end - begin);
    }
  }

  // What layers read is gathered; LARS needs the masters of all, for its norms.
  void Fill(const steps::GatherParameters& gather, OperationCost& cost) const {
    const BucketRange& bucket = BucketAt(gather.bucket);
    cost.name = "gather " + bucket.name;
    cost.stream = CostStream::kCommunication;
    cost.parameters = CountOf(LearningRanges(bucket));
    const bool gathers_masters = NeedsWeightNorms(options_.rule);
    Collect("updated " + bucket.name, CollectiveKind::kAllGather, bucket.axes, PartOf(bucket),
            gathers_masters ? options_.master : options_.dtype, cost.collectives);
  }

  // Adds one call, unless the group is only this rank.
  void Collect(const std::string& what, CollectiveKind kind, Axes wanted, int64_t block_count,
               DType dtype, std::vector<CollectiveCost>& costs) const {
    const Axes axes = plan_.grid.Effective(wanted);
    if (axes.empty()) return;
    AddTo(costs, {.what = what,
                  .kind = kind,
                  .axes = axes,
                  .calls = 1,
                  .bytes = BytesReceived({.kind = kind,
                                          .block_count = block_count,
                                          .dtype = dtype,
                                          .rank = plan_.grid.RankAlong(axes, plan_.place),
                                          .ranks = plan_.grid.RanksAlong(axes)})});
  }

  // Two sums per channel, and `values` more.
  void AddStatistics(const SegmentPlan& segment, const LayerSite& site, int64_t values,
                     OperationCost& cost) const {
    if (!std::holds_alternative<BatchNorm>(site.layer.layer)) return;
    Collect("batch norm", CollectiveKind::kAllReduce, segment.statistics,
            2 * site.input.back() + values, DType::kFloat64, cost.statistics);
  }

  static int64_t FlopsOf(const LayerSite& site, int64_t rows) {
    return 2 * CountsOf(site).multiply_adds * rows;
  }

  static std::string NameOf(const SegmentPlan& segment) {
    const std::string& first = segment.spec.items.front().layer.name;
    const std::string& last = segment.spec.items.back().layer.name;
    return first == last ? first : first + ".." + last;
  }

  std::vector<Range> LearningRanges(const BucketRange& bucket) const {
    std::vector<Range> ranges;
    const ArenaLayout layout = plan_.ParameterLayout();
    for (const ParameterSlice& slice : plan_.parameters) {
      const ArenaEntry& entry = layout.Find(slice.uncut.name);
      const bool is_in = entry.offset >= bucket.begin && entry.offset < bucket.begin + bucket.count;
      if (is_in && learns_.at(static_cast<size_t>(slice.layer_index))) {
        ranges.push_back({entry.offset, entry.shape.count()});
      }
    }
    return ranges;
  }
  static int64_t CountOf(const std::vector<Range>& ranges) {
    int64_t elements = 0;
    for (const Range& range : ranges) elements += range.count;
    return elements;
  }
  // Elements of a sharded bucket that one rank updates.
  int64_t PartOf(const BucketRange& bucket) const {
    return bucket.count / plan_.grid.RanksAlong(bucket.axes);
  }

  const BucketRange& BucketAt(int bucket) const { return buckets_.at(static_cast<size_t>(bucket)); }
  const Stage& StageAt(int stage) const { return plan_.stages.at(static_cast<size_t>(stage)); }
  const SegmentPlan& SegmentAt(int stage) const { return std::get<SegmentPlan>(StageAt(stage)); }
  bool Learns(const SegmentSpec::Item& item) const {
    return learns_.at(static_cast<size_t>(item.uncut_index));
  }
  // Whether a layer of the uncut network learns that comes before this one: every rank takes part
  // in the exchanges of gradients for it, whether it has a share of that layer or not.
  bool LearnsBefore(int layer) const {
    return std::find(learns_.begin(), learns_.begin() + layer, true) != learns_.begin() + layer;
  }

  const RankPlan& plan_;
  const std::vector<BucketRange>& buckets_;
  const CostOptions& options_;
  const std::vector<bool> learns_;
  const bool trains_, needs_norms_;
};

}  // namespace

int64_t OperationCost::bytes() const {
  int64_t sum = 0;
  for (const auto* part : {&collectives, &statistics}) {
    for (const CollectiveCost& one : *part) sum += one.bytes;
  }
  return sum;
}

std::vector<OperationCost> CostsOf(const RankPlan& plan, const std::vector<BucketRange>& buckets,
                                   const StepProgram& program, const CostOptions& options) {
  const CostWalk walk(plan, buckets, program, options);
  std::vector<OperationCost> costs;
  costs.reserve(program.size());
  for (const StepOperation& operation : program) costs.push_back(walk.Of(operation));
  return costs;
}

std::vector<CollectiveCost> TrafficOf(const std::vector<OperationCost>& costs) {
  std::vector<CollectiveCost> traffic;
  for (const OperationCost& cost : costs) {
    for (const auto* part : {&cost.collectives, &cost.statistics}) {
      for (const CollectiveCost& one : *part) AddTo(traffic, one);
    }
  }
  return traffic;
}

}  // namespace convoy
