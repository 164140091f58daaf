#include "tests/cuda/layer_reference.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <variant>

#include "layers/analysis.h"
#include "layers/models.h"
#include "tests/backend/compare.h"
#include "trainer/plan/plan.h"

namespace convoy {
namespace {

bool HasProducts(const Layer& layer) {
  return std::holds_alternative<Convolution>(layer) ||
         std::holds_alternative<FullyConnected>(layer);
}

bool IsRelu(const Layer& layer) {
  const auto* activation = std::get_if<Activation>(&layer);
  return activation != nullptr && activation->kind == ActivationKind::kRelu;
}

// Of the first of `towers` ranks.
std::vector<TestedLayer> LayersOfTower(int towers) {
  std::vector<TestedLayer> layers;
  const RankPlan plan = MakePlan(MakeModel("alexnet2012"), {.towers = towers}, 0);
  for (const Stage& stage : plan.stages) {
    const auto* segment = std::get_if<SegmentPlan>(&stage);
    if (segment == nullptr) continue;
    const std::vector<LayerSite> sites = SitesOf(segment->spec);
    for (size_t i = 0; i < sites.size(); ++i) {
      const LayerSpec& spec = sites[i].layer;
      if (!HasProducts(spec.layer)) continue;
      const bool relu = i + 1 < sites.size() && IsRelu(sites[i + 1].layer.layer);
      layers.push_back({.name = spec.name, .spec = spec, .input = sites[i].input, .relu = relu});
    }
  }
  return layers;
}

// Sums over fewer rows would be of little use in a product of matrices, and convolutions have
// places too.
int64_t BatchOf(const TestedLayer& layer) {
  return std::holds_alternative<Convolution>(layer.spec.layer) ? 8 : 16;
}

}  // namespace

std::vector<TestedLayer> LayersWithProducts() {
  std::vector<TestedLayer> layers = LayersOfTower(1);
  const std::vector<TestedLayer> whole = layers;
  for (TestedLayer& half : LayersOfTower(2)) {
    const bool is_whole = std::any_of(whole.begin(), whole.end(), [&](const TestedLayer& other) {
      return other.spec == half.spec && other.input == half.input;
    });
    if (is_whole) continue;
    half.name += "_of_a_tower";
    layers.push_back(std::move(half));
  }
  return layers;
}

LayerReference ReferenceOf(const TestedLayer& layer) {
  const int64_t batch = BatchOf(layer);
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  SegmentRun run(MakeOracleBackend(threads), SegmentOf(layer.input, {layer.spec.layer}),
                 {.dtype = DType::kFloat64, .batch = batch});
  const auto parameter = [&](const char* name) {
    return run.parameter_layout().View(run.arenas().parameters, name);
  };
  const Tensor weight = parameter("layer0.weight");
  const Shape y_shape = run.network().output().shape;
  LayerReference reference{.x_shape = run.network().input().shape,
                           .weight_shape = weight.shape,
                           .y_shape = y_shape,
                           .x = RandomValues(run.network().input().count(), 11),
                           .weight = run.Values(weight),
                           .bias = run.Values(parameter("layer0.bias")),
                           .dy = RandomValues(y_shape.count(), 12)};
  // Zeros of both signs.
  for (double& value : reference.x) {
    if (value < 0) value = value < -1 ? -0.0 : 0.0;
  }
  run.SetInput(reference.x);
  run.SetOutputGradient(reference.dy);
  run.Forward(true);
  run.Backward();
  reference.y = run.Output();
  for (size_t i = 0; i < reference.y.size(); ++i) {
    reference.y[i] -= reference.bias[i % reference.bias.size()];
  }
  reference.dx = run.InputGradient();
  reference.weight_gradient = run.Gradient("layer0.weight");
  reference.bias_gradient = run.Gradient("layer0.bias");
  return reference;
}

}  // namespace convoy
