#include "layers/analysis.h"
#include "layers/network.h"

namespace convoy {

SegmentSpec WholeNetwork(const NetworkSpec& network) {
  SegmentSpec segment{.input = network.input, .items = {}};
  const std::vector<Shape> shapes = InferShapes(network.input, network.layers);
  for (size_t i = 0; i < network.layers.size(); ++i) {
    const int64_t channels = shapes[i].back();
    segment.items.push_back({.layer = network.layers[i],
                             .output = {0, channels, channels},
                             .uncut_index = static_cast<int>(i)});
  }
  return segment;
}

}  // namespace convoy
