#include "tests/trainer/trace_check.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "tests/shared_folder.h"

namespace convoy {
namespace {

using nlohmann::json;

const std::string kTrace = SharedFolder() + "/reference/alexnet2012_trace.json";
constexpr int64_t kBatch = 8;

// The file's random numbers: uniform in [0, 1) of (salt, index).
double Uniform(uint64_t salt, uint64_t index) {
  uint64_t z = (salt << 32) + index + 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

// Fills this rank's weights by the file's formula, whose index runs over [out, in, kh, kw].
void FillWeights(Harness& harness, const json& trace) {
  uint64_t salt = 10;
  std::map<std::string, uint64_t> salts;
  for (const char* layer : {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"}) {
    salts[layer] = salt++;
  }
  for (const ParameterSlice& slice : harness.plan().parameters) {
    const std::string layer = slice.uncut.name.substr(0, slice.uncut.name.find('.'));
    const Tensor target =
        harness.store().parameter_layout().View(harness.store().parameters(), slice.uncut.name);
    std::vector<double> values(static_cast<size_t>(target.count()));
    if (slice.uncut.role == ParameterRole::kBias) {
      std::fill(values.begin(), values.end(), trace["bias"][layer].get<double>());
      harness.Write(values, target);
      continue;
    }
    // Rows of our tensors are [kh, kw, in]; fc6 reads 6 x 6 x 256 in the same order.
    const Shape& shape = slice.uncut.shape;
    const bool is_conv = shape.rank() == 4;
    const int64_t kh = is_conv ? shape[1] : layer == "fc6" ? 6 : 1;
    const int64_t kw = is_conv ? shape[2] : kh;
    const int64_t in = is_conv ? shape[3] : shape[1] / kh / kw;
    const double scale = std::sqrt(12.0) * trace["std"][layer].get<double>();
    size_t i = 0;
    for (int64_t o = slice.begin; o < slice.begin + slice.count; ++o) {
      for (int64_t h = 0; h < kh; ++h) {
        for (int64_t w = 0; w < kw; ++w) {
          for (int64_t c = 0; c < in; ++c, ++i) {
            const auto index = static_cast<uint64_t>(((o * in + c) * kh + h) * kw + w);
            values[i] = (Uniform(salts[layer], index) - 0.5) * scale;
          }
        }
      }
    }
    harness.Write(values, target);
  }
  harness.store().RefreshCompute(harness.stream());
}

Batch TraceBatch(const Harness& harness, int step) {
  const auto pixel = [step](int64_t n, int64_t i) {
    const int64_t c = i % 3, x = i / 3 % 224, y = i / 3 / 224;
    const auto index = static_cast<uint64_t>(((n * 3 + c) * 224 + y) * 224 + x);
    return static_cast<uint8_t>(
        std::floor(256 * Uniform(static_cast<uint64_t>(1000 + step), index)));
  };
  const auto label = [step](int64_t n) {
    return static_cast<int32_t>(
        std::floor(1000 * Uniform(static_cast<uint64_t>(2000 + step), static_cast<uint64_t>(n))));
  };
  return harness.MakeBatch(0, 0, kBatch, pixel, label);
}

struct Moments {
  double norm = 0, sum = 0;
};
Moments MomentsOf(const std::vector<double>& values) {
  Moments moments;
  for (double value : values) {
    moments.norm += value * value;
    moments.sum += value;
  }
  moments.norm = std::sqrt(moments.norm);
  return moments;
}

// The norm of the logits over the global batch.
double LogitsNorm(Harness& harness) {
  double squares = 0;
  if (const Tensor logits = harness.model().Activation("fc8")) {
    for (const double value : harness.Read(logits)) squares += value * value;
  }
  Harness::Sum(harness.world().all(), &squares, 1);
  return std::sqrt(squares);
}

// Where the file's element `i` < 4, counted in [out, in, kh, kw], lies in our [out, kh, kw, in].
size_t OurIndex(const std::string& name, size_t i) {
  if (name == "fc6.weight") return i * 256;
  if (!name.starts_with("conv") || name.ends_with(".bias")) return i;
  const std::map<std::string, size_t> inputs = {
      {"conv1", 3}, {"conv2", 48}, {"conv3", 256}, {"conv4", 192}, {"conv5", 192}};
  return i * inputs.at(name.substr(0, 5));
}

void CompareFinal(Harness& harness, const json& trace, const TraceTolerance& tolerance) {
  for (const auto& [name, figures] : trace["final"].items()) {
    const std::vector<double> weights = harness.Uncut(harness.store().parameters(), name);
    // A weight moves by about 1e-5 of itself in ten steps; single precision rounds at 6e-8.
    EXPECT_NEAR(MomentsOf(weights).norm, figures["norm"].get<double>(),
                1e-5 * figures["norm"].get<double>() + 1e-7)
        << name;
    // Ten updates of values up to 1 round ten times at 6e-8.
    for (size_t i = 0; i < figures["first"].size(); ++i) {
      EXPECT_NEAR(weights[OurIndex(name, i)], figures["first"][i].get<double>(), 1e-6)
          << name << " " << i;
    }
    const Moments momentum = MomentsOf(harness.Uncut(harness.store().states()[0], name));
    const double expected = figures["momentum_norm"].get<double>();
    EXPECT_NEAR(momentum.norm, expected, tolerance.momentum * expected) << name;
  }
}

}  // namespace

bool HasTrace() { return std::filesystem::exists(kTrace); }

void ReproduceTrace(World& world, const GridShape& grid,
                    const std::function<std::unique_ptr<Backend>()>& make_backend, DType dtype,
                    int steps, const TraceTolerance& tolerance) {
  json trace;
  std::ifstream(kTrace) >> trace;
  Harness harness(
      world,
      {.network = MakeModel("alexnet2012", {.dropout = "0"}),
       .grid = grid,
       .batch = kBatch,
       // One step an epoch: the file's rate falls at step 6. Biases learn twice as fast and do
       // not decay, as the model says.
       .optimizer = {.lr = 1e-5,
                     .momentum = 0.9,
                     .weight_decay = 5e-4,
                     .lr_scheduler = Schedule::Parse("piecewise:0=1e-5,6=1e-6", "lr-scheduler")},
       .preprocessing = {.mean = {117, 117, 117}},
       .make_backend = make_backend,
       .dtype = dtype});
  FillWeights(harness, trace);
  for (int step = 0; step < steps; ++step) {
    const json& expected = trace["steps"][static_cast<size_t>(step)];
    const double loss = harness.Step(TraceBatch(harness, step), step);
    EXPECT_NEAR(loss, expected["loss"].get<double>(),
                tolerance.loss * expected["loss"].get<double>())
        << "step " << step;
    EXPECT_NEAR(LogitsNorm(harness), expected["logits_norm"].get<double>(),
                tolerance.gradient * expected["logits_norm"].get<double>())
        << "step " << step;
    // The file has the gradients of some steps.
    if (!expected.contains("gradient")) continue;
    for (const auto& [name, figures] : expected["gradient"].items()) {
      const Moments moments = MomentsOf(harness.Uncut(harness.store().gradients(), name));
      const double norm = figures["norm"].get<double>();
      EXPECT_NEAR(moments.norm, norm, tolerance.gradient * norm) << "step " << step << " " << name;
      if (tolerance.sums) {
        const double sum = figures["sum"].get<double>();
        EXPECT_NEAR(moments.sum, sum, tolerance.gradient * std::max(std::abs(sum), norm))
            << "step " << step << " " << name;
      }
    }
  }
  if (steps == static_cast<int>(trace["steps"].size())) CompareFinal(harness, trace, tolerance);
}

}  // namespace convoy
