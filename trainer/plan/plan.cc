#include "trainer/plan/plan.h"

#include <algorithm>

#include "layers/analysis.h"

namespace convoy {
namespace {

// Walks the uncut list once and writes the list of one tower.
class Cutter {
 public:
  Cutter(const NetworkSpec& network, int towers, int tower)
      : network_(network), towers_(towers), tower_(tower) {
    for (size_t i = 0; i < network.layers.size(); ++i) {
      if (std::holds_alternative<FullyConnected>(network.layers[i].layer)) {
        classifier_ = static_cast<int>(i);
      }
    }
    segment_.input = network.input;
  }

  void Run() {
    for (LayerSite& site : SitesOf(network_)) {
      site_ = std::move(site);
      const LayerSpec& layer = site_.layer;
      if (towers_ == 1) {
        Place(layer, 1);
      } else if (const auto* conv = std::get_if<Convolution>(&layer.layer)) {
        PlaceConvolution(layer, *conv);
      } else if (const auto* fc = std::get_if<FullyConnected>(&layer.layer)) {
        PlaceFullyConnected(layer, *fc);
      } else if (const auto* lrn = std::get_if<Lrn>(&layer.layer)) {
        PlaceLrn(layer, *lrn);
      } else {
        Place(layer, sliced_ ? towers_ : 1);
      }
    }
    CloseSegment();
  }

  std::vector<Stage> stages;
  std::vector<ParameterSlice> parameters;
  std::vector<BufferSlice> buffers;
  bool owns_loss = false;

 private:
  void PlaceConvolution(const LayerSpec& layer, const Convolution& conv) {
    RequireDivisible(layer, conv.out_channels);
    Convolution local = conv;
    local.out_channels = conv.out_channels / towers_;
    const bool reads_own_channels = conv.groups % towers_ == 0;
    if (reads_own_channels) {
      if (!sliced_) Refuse(layer, "its groups read parts of an input that every tower has whole");
      local.groups = conv.groups / towers_;
    } else {
      if (conv.groups != 1) Refuse(layer, fmt::format("{} groups", conv.groups));
      if (sliced_) AddExchange(ExchangeKind::kAllGather, layer);
    }
    Place({layer.name, local}, towers_);
    sliced_ = true;
  }

  void PlaceFullyConnected(const LayerSpec& layer, const FullyConnected& fc) {
    if (site_.index == classifier_) {
      if (sliced_) AddExchange(ExchangeKind::kGatherToOwner, layer);
      sliced_ = false;
      present_ = tower_ == 0;
      Place(layer, 1);
      return;
    }
    RequireDivisible(layer, fc.out_features);
    if (sliced_) AddExchange(ExchangeKind::kAllGather, layer);
    FullyConnected local = fc;
    local.out_features = fc.out_features / towers_;
    Place({layer.name, local}, towers_);
    sliced_ = true;
  }

  void PlaceLrn(const LayerSpec& layer, const Lrn& lrn) {
    if (!sliced_) return Place(layer, 1);
    if (lrn.groups % towers_ != 0) {
      Refuse(layer, "its windows reach across the towers");
    }
    Lrn local = lrn;
    local.groups = lrn.groups / towers_;
    Place({layer.name, local}, towers_);
  }

  // Appends the layer as this rank runs it. Its output is cut into `parts` (1 or towers_), and so
  // are the parameters, along their outermost dimension.
  void Place(const LayerSpec& local, int parts) {
    if (!present_) return;
    const int part = parts > 1 ? tower_ : 0;
    const int64_t channels = site_.output.back();
    segment_.items.push_back({.layer = local,
                              .output = {part * (channels / parts), channels / parts, channels},
                              .uncut_index = site_.index});
    for (const ParameterInfo& parameter : site_.parameters) {
      const int64_t rows = parameter.shape[0] / parts;
      parameters.push_back({parameter, site_.index, part * rows, rows});
    }
    for (const BufferInfo& buffer : site_.buffers) {
      const int64_t rows = buffer.shape[0] / parts;
      buffers.push_back({buffer, part * rows, rows});
    }
    if (std::holds_alternative<SoftmaxCrossEntropy>(site_.layer.layer)) owns_loss = true;
  }

  // Ends the current segment and starts one that reads all channels of the layer before.
  void AddExchange(ExchangeKind kind, const LayerSpec& reader) {
    const std::string from = network_.layers[static_cast<size_t>(site_.index) - 1].name;
    CloseSegment();
    const Shape& whole = site_.input;
    const Shape part = whole.With(whole.rank() - 1, whole.back() / towers_);
    stages.emplace_back(Exchange{.kind = kind,
                                 .name = from + " to " + reader.name,
                                 .owner = 0,
                                 .part = part,
                                 .whole = whole});
    segment_ = {.input = whole, .items = {}, .needs_input_gradient = true};
    sliced_ = false;
  }

  void CloseSegment() {
    if (!segment_.items.empty()) stages.emplace_back(SegmentPlan{segment_});
  }

  void RequireDivisible(const LayerSpec& layer, int channels) const {
    if (channels % towers_ != 0) Refuse(layer, fmt::format("{} outputs", channels));
  }

  [[noreturn]] void Refuse(const LayerSpec& layer, const std::string& why) const {
    throw Error(ExitCode::kUsage,
                fmt::format("--towers {}: layer {} of {} cannot be cut: {}", towers_, layer.name,
                            network_.name, why),
                "use --replicas, or a model made for towers such as alexnet2012");
  }

  const NetworkSpec& network_;
  int towers_, tower_;
  int classifier_ = -1;  // the last fully connected layer
  LayerSite site_;       // the current layer, uncut
  bool sliced_ = false;  // each tower has its own channels of site_.input
  bool present_ = true;  // this tower runs the current layer
  SegmentSpec segment_;
};

template <typename Slices>
ArenaLayout LayoutOf(const Slices& slices) {
  ArenaLayout layout;
  for (const auto& slice : slices) layout.Add(slice.uncut.name, slice.LocalShape());
  return layout;
}

}  // namespace

ArenaLayout RankPlan::ParameterLayout() const { return LayoutOf(parameters); }
ArenaLayout RankPlan::BufferLayout() const { return LayoutOf(buffers); }

int64_t RankPlan::ParameterCount() const {
  int64_t count = 0;
  for (const ParameterSlice& slice : parameters) count += slice.LocalShape().count();
  return count;
}

RankPlan MakePlan(const NetworkSpec& network, const GridShape& grid, int rank) {
  RequireTowers(grid.towers);
  CONVOY_CHECK(grid.replicas >= 1, "{} replicas", grid.replicas);
  CONVOY_CHECK(rank >= 0 && rank < grid.ranks(), "rank {} of {}", rank, grid.ranks());
  const int tower = rank % grid.towers;
  Cutter cutter(network, grid.towers, tower);
  cutter.Run();
  return {.network = network,
          .grid = grid,
          .replica = rank / grid.towers,
          .tower = tower,
          .stages = std::move(cutter.stages),
          .parameters = std::move(cutter.parameters),
          .buffers = std::move(cutter.buffers),
          .owns_loss = cutter.owns_loss};
}

std::vector<ExchangeTraffic> ForwardTraffic(const NetworkSpec& network, const GridShape& grid) {
  std::vector<ExchangeTraffic> traffic;
  for (int from = 0; from < grid.towers; ++from) {
    const RankPlan plan = MakePlan(network, grid, from);
    for (const Stage& stage : plan.stages) {
      const auto* exchange = std::get_if<Exchange>(&stage);
      if (exchange == nullptr) continue;
      for (int to = 0; to < grid.towers; ++to) {
        const bool receives = exchange->kind == ExchangeKind::kAllGather || to == exchange->owner;
        if (to == from || !receives) continue;
        traffic.push_back({exchange->name, from, to, exchange->elements_sent()});
      }
    }
  }
  return traffic;
}

std::vector<BucketRange> PlanBuckets(const RankPlan& plan) {
  const ArenaLayout layout = plan.ParameterLayout();
  if (layout.entries().empty()) return {};
  // Where the first and the second fully connected layer begin: the two cuts.
  std::vector<size_t> cuts;
  for (size_t i = 0; i < plan.parameters.size() && cuts.size() < 2; ++i) {
    const ParameterSlice& slice = plan.parameters[i];
    const Layer& layer = plan.network.layers[static_cast<size_t>(slice.layer_index)].layer;
    const bool starts_layer = i == 0 || plan.parameters[i - 1].layer_index != slice.layer_index;
    if (std::holds_alternative<FullyConnected>(layer) && starts_layer) cuts.push_back(i);
  }
  std::vector<size_t> starts{0};
  for (size_t cut : cuts) {
    if (cut > 0) starts.push_back(cut);
  }
  std::vector<BucketRange> buckets;
  for (size_t b = starts.size(); b-- > 0;) {
    const size_t first = starts[b];
    const size_t end = b + 1 < starts.size() ? starts[b + 1] : plan.parameters.size();
    const int64_t begin = layout.entries()[first].offset;
    const int64_t stop =
        end < plan.parameters.size() ? layout.entries()[end].offset : layout.count();
    const auto layer_name = [&](size_t i) {
      return plan.network.layers[static_cast<size_t>(plan.parameters[i].layer_index)].name;
    };
    const std::string from = layer_name(first), to = layer_name(end - 1);
    buckets.push_back({from == to ? from : fmt::format("{}..{}", from, to), begin, stop - begin});
  }
  return buckets;
}

}  // namespace convoy
