#include "trainer/plan/plan.h"

#include <algorithm>

#include "layers/analysis.h"

namespace convoy {
namespace {

// How the output of a layer lies on the ranks of a replica.
struct Distribution {
  int channel_parts = 1;  // 1: each rank has all channels
  bool gathered = false;  // each rank has the rows of all shards, and not only its own
};

// Walks the uncut list once and writes the list of one rank.
class Cutter {
 public:
  Cutter(const NetworkSpec& network, const GridShape& grid, const GridPlace& place)
      : network_(network), grid_(grid), place_(place) {
    for (size_t i = 0; i < network.layers.size(); ++i) {
      if (std::holds_alternative<FullyConnected>(network.layers[i].layer)) {
        classifier_ = static_cast<int>(i);
      }
    }
    if (grid.shards > 1 && classifier_ < 0) {
      throw Error(
          ExitCode::kUsage,
          fmt::format("--fc-shards {}: {} has no fully connected layer", grid.shards, network.name),
          "use --replicas");
    }
    StartSegment(network.input, /*needs_input_gradient=*/false);
  }

  void Run() {
    for (LayerSite& site : SitesOf(network_)) {
      site_ = std::move(site);
      const LayerSpec& layer = site_.layer;
      std::visit([&](const auto& spec) { PlaceLayer(layer, spec); }, layer.layer);
    }
    CloseSegment();
  }

  std::vector<Stage> stages;
  std::vector<ParameterSlice> parameters;
  std::vector<BufferSlice> buffers;
  bool has_loss = false;

 private:
  template <typename Spec>
  void PlaceLayer(const LayerSpec& layer, const Spec&) {
    Place(layer, now_.channel_parts);
  }

  void PlaceLayer(const LayerSpec& layer, const Convolution& conv) {
    if (now_.gathered) RefuseShards(layer, "it comes after a fully connected layer");
    if (grid_.towers == 1) return Place(layer, 1);
    RequireDivisible(layer, conv.out_channels);
    Convolution local = conv;
    local.out_channels = conv.out_channels / grid_.towers;
    const bool reads_own_channels = conv.groups % grid_.towers == 0;
    if (reads_own_channels) {
      if (!sliced()) Refuse(layer, "its groups read parts of an input that every tower has whole");
      local.groups = conv.groups / grid_.towers;
    } else {
      if (conv.groups != 1) Refuse(layer, fmt::format("{} groups", conv.groups));
      if (sliced()) AddExchange(ExchangeKind::kAllGather, {}, layer);
    }
    Place({layer.name, local}, grid_.towers);
  }

  void PlaceLayer(const LayerSpec& layer, const FullyConnected& fc) {
    const bool gathers_rows = grid_.shards > 1 && !now_.gathered;
    // Only one tower has the paper's classifier. Under shards every rank has a share of it: one
    // that had it all would keep the others waiting, and they would get no fewer bytes.
    if (site_.index == classifier_ && grid_.shards == 1 && grid_.towers > 1) {
      if (sliced()) AddExchange(ExchangeKind::kGatherToOwner, {}, layer);
      present_ = place_.tower == 0;
      return Place(layer, 1);
    }
    const int parts = grid_.ranks_per_replica();
    if (grid_.shards == 1) RequireDivisible(layer, fc.out_features);
    if (sliced() || gathers_rows) {
      AddExchange(ExchangeKind::kAllGather,
                  {.channel_parts = 1, .gathered = now_.gathered || gathers_rows}, layer);
    }
    FullyConnected local = fc;
    local.out_features = static_cast<int>(ShareOf(fc.out_features, parts, PartOf(parts)).count);
    Place({layer.name, local}, parts);
  }

  void PlaceLayer(const LayerSpec& layer, const Lrn& lrn) {
    if (!sliced()) return Place(layer, 1);
    if (lrn.groups % now_.channel_parts != 0) {
      Refuse(layer, "its windows reach across the towers");
    }
    Lrn local = lrn;
    local.groups = lrn.groups / now_.channel_parts;
    Place({layer.name, local}, now_.channel_parts);
  }

  // Every rank that has a share of the classifier computes the loss of all rows.
  void PlaceLayer(const LayerSpec& layer, const SoftmaxCrossEntropy&) {
    if (sliced()) AddExchange(ExchangeKind::kGatherCopies, {.gathered = now_.gathered}, layer);
    Place(layer, 1);
    has_loss |= present_;
  }

  bool sliced() const { return now_.channel_parts > 1; }
  int ShardsNow() const { return now_.gathered ? grid_.shards : 1; }
  // Returns which of `parts` parts of the channels is this rank's.
  int PartOf(int parts) const {
    if (parts == 1) return 0;
    return now_.gathered ? place_.shard * grid_.towers + place_.tower : place_.tower;
  }

  // Appends the layer as this rank runs it. Its output is cut into `parts`, and so are the
  // parameters, along their outermost dimension.
  void Place(const LayerSpec& local, int parts) {
    const bool is_on_every_tower = parts == 1 && grid_.towers > 1 && site_.index != classifier_;
    if (is_on_every_tower && !site_.parameters.empty()) {
      Refuse(local, "every tower would have all of it");
    }
    now_.channel_parts = parts;
    const int part = PartOf(parts);
    // If there are more ranks than outputs, the last ones have nothing to do until the exchange.
    present_ &= ShareOf(site_.output.back(), parts, part).count > 0;
    if (!present_) return;
    segment_.items.push_back({.layer = local,
                              .output = ShareOf(site_.output.back(), parts, part),
                              .uncut_index = site_.index});
    for (const ParameterInfo& parameter : site_.parameters) {
      const ChannelSlice rows = ShareOf(parameter.shape[0], parts, part);
      parameters.push_back({parameter, site_.index, rows.begin, rows.count, Copies()});
    }
    for (const BufferInfo& buffer : site_.buffers) {
      const ChannelSlice rows = ShareOf(buffer.shape[0], parts, part);
      buffers.push_back({buffer, rows.begin, rows.count, Copies()});
    }
  }

  // Along these axes other ranks run the current layer as this one does, on other rows.
  Axes Copies() const {
    return now_.gathered ? Axes(Axis::kReplica) : Axis::kReplica | Axis::kShard;
  }

  // Ends the current segment and starts one that reads the whole, as `next` says which rows.
  void AddExchange(ExchangeKind kind, Distribution next, const LayerSpec& reader) {
    const std::string from = network_.layers[static_cast<size_t>(site_.index) - 1].name;
    const Shape& whole = site_.input;
    const int parts = now_.channel_parts;
    const ChannelSlice own = ShareOf(whole.back(), parts, PartOf(parts));
    CloseSegment();
    Axes axes;
    if (parts > 1) axes = axes | Axis::kTower;
    if (next.gathered) axes = axes | Axis::kShard;
    stages.emplace_back(Exchange{.kind = kind,
                                 .name = from + " to " + reader.name,
                                 .axes = axes,
                                 .reader_index = site_.index,
                                 .row_parts = next.gathered == now_.gathered ? 1 : grid_.shards,
                                 .channel_parts = parts,
                                 .shards_per_part = ShardsNow(),
                                 .part = whole.With(whole.rank() - 1, own.count),
                                 .whole = whole});
    now_ = next;
    present_ = true;
    StartSegment(whole, /*needs_input_gradient=*/true);
  }

  void StartSegment(const Shape& input, bool needs_input_gradient) {
    segment_ = {.input = input, .items = {}, .needs_input_gradient = needs_input_gradient};
  }

  void CloseSegment() {
    if (segment_.items.empty()) return;
    stages.emplace_back(
        SegmentPlan{.spec = segment_, .shards = ShardsNow(), .statistics = Copies()});
  }

  void RequireDivisible(const LayerSpec& layer, int channels) const {
    if (channels % grid_.towers != 0) Refuse(layer, fmt::format("{} outputs", channels));
  }

  [[noreturn]] void Refuse(const LayerSpec& layer, const std::string& why) const {
    throw Error(ExitCode::kUsage,
                fmt::format("--towers {}: layer {} of {} cannot be cut: {}", grid_.towers,
                            layer.name, network_.name, why),
                "use --replicas, or a model made for towers such as alexnet2012");
  }

  [[noreturn]] void RefuseShards(const LayerSpec& layer, const std::string& why) const {
    throw Error(ExitCode::kUsage,
                fmt::format("--fc-shards {}: layer {} of {} cannot be cut: {}", grid_.shards,
                            layer.name, network_.name, why),
                "use fewer shards, or --replicas");
  }

  const NetworkSpec& network_;
  const GridShape grid_;
  const GridPlace place_;
  int classifier_ = -1;  // the last fully connected layer
  LayerSite site_;       // the current layer, uncut
  Distribution now_;     // of site_.input
  bool present_ = true;  // this rank runs the current layer
  SegmentSpec segment_;
};

}  // namespace

int64_t Exchange::PartCapacity() const {
  const int64_t largest_share = ShareOf(whole.back(), channel_parts, 0).count;
  return whole.count() / whole.back() * largest_share;
}

int64_t RankPlan::ParameterCount() const {
  int64_t count = 0;
  for (const ParameterSlice& slice : parameters) count += slice.LocalShape().count();
  return count;
}

bool RankPlan::HasSegmentAfterEverySum() const {
  for (size_t i = 0; i < stages.size(); ++i) {
    const auto* exchange = std::get_if<Exchange>(&stages[i]);
    if (exchange == nullptr || exchange->kind != ExchangeKind::kAllGather) continue;
    if (i + 1 == stages.size() || !std::holds_alternative<SegmentPlan>(stages[i + 1])) return false;
  }
  return true;
}

RankPlan MakePlan(const NetworkSpec& network, const GridShape& grid, int rank,
                  const PlanOptions& options) {
  RequireTowers(grid.towers);
  CONVOY_CHECK(grid.replicas >= 1 && grid.shards >= 1, "{} replicas of {} shards", grid.replicas,
               grid.shards);
  const GridPlace place = grid.PlaceOf(rank);
  Cutter cutter(network, grid, place);
  cutter.Run();
  if (options.shards_update) {
    std::stable_partition(cutter.parameters.begin(), cutter.parameters.end(),
                          [](const ParameterSlice& slice) { return !slice.is_small(); });
  }
  return {.network = network,
          .grid = grid,
          .place = place,
          .options = options,
          .stages = std::move(cutter.stages),
          .parameters = std::move(cutter.parameters),
          .buffers = std::move(cutter.buffers),
          .has_loss = cutter.has_loss};
}

std::vector<ParameterCut> CutsOf(const NetworkSpec& network, const GridShape& grid) {
  // Rank 0 has a part of every parameter.
  std::vector<ParameterCut> cuts;
  for (const ParameterSlice& slice : MakePlan(network, grid, 0).parameters) {
    cuts.push_back({slice.uncut, grid.axes() - slice.copies});
  }
  return cuts;
}

std::vector<ExchangeTraffic> ForwardTraffic(const NetworkSpec& network, const GridShape& grid) {
  std::vector<ExchangeTraffic> traffic;
  for (int from = 0; from < grid.towers; ++from) {
    const RankPlan plan = MakePlan(network, grid, from);
    for (const Stage& stage : plan.stages) {
      const auto* exchange = std::get_if<Exchange>(&stage);
      if (exchange == nullptr) continue;
      for (int to = 0; to < grid.towers; ++to) {
        const bool receives = exchange->kind != ExchangeKind::kGatherToOwner || to == 0;
        if (to == from || !receives) continue;
        traffic.push_back({exchange->name, from, to, exchange->elements_sent()});
      }
    }
  }
  return traffic;
}

}  // namespace convoy
