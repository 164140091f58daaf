#include "layers/network.h"

#include "layers/analysis.h"

namespace convoy {

SegmentSpec WholeNetwork(const NetworkSpec& network) {
  SegmentSpec segment{.input = network.input, .items = {}};
  for (const LayerSite& site : SitesOf(network)) {
    const int64_t channels = site.output.back();
    segment.items.push_back(
        {.layer = site.layer, .output = {0, channels, channels}, .uncut_index = site.index});
  }
  return segment;
}

std::vector<LayerSite> SitesOf(const SegmentSpec& segment) {
  std::vector<LayerSpec> layers;
  layers.reserve(segment.items.size());
  for (const SegmentSpec::Item& item : segment.items) layers.push_back(item.layer);
  return SitesOf(segment.input, layers);
}

Tensor ViewOf(LossSums& sums) {
  constexpr int64_t kCount = sizeof(LossSums) / sizeof(double);
  return {&sums, DType::kFloat64, Shape{kCount}};
}

LossSums ReadLossSums(Stream& stream, const Tensor& sums) {
  LossSums result;
  stream.Copy(&result, sums.data, sums.bytes());
  stream.Synchronize();
  return result;
}

}  // namespace convoy
