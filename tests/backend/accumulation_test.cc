// Networks whose gradients add up over several batches.
#include <algorithm>
#include <cmath>

#include "tests/backend/tested.h"

namespace convoy {
namespace {

constexpr int64_t kBatches = 3, kRowsOfBatch = 2, kRows = kBatches * kRowsOfBatch;

// Fills the rows of `run` with rows [first, first + count) of one batch of kRows, the last of which
// is padding.
void SetRows(SegmentRun& run, int64_t first, int64_t count) {
  const Tensor input = run.network().input();
  const int64_t sample = input.count() / count;
  const std::vector<double> values = RandomValues(kRows * sample, 4);
  run.SetInput({values.begin() + first * sample, values.begin() + (first + count) * sample});
  std::vector<int32_t> labels;
  std::vector<float> weights;
  std::vector<int64_t> positions;
  for (int64_t row = first; row < first + count; ++row) {
    const bool is_padding = row + 1 == kRows;
    labels.push_back(is_padding ? -1 : static_cast<int32_t>(7 * row % 10));
    weights.push_back(is_padding ? 0 : 1);
    positions.push_back(is_padding ? -1 : 1000 + row);
  }
  const RowInfo& rows = run.context().rows;
  SetElements(run.backend(), run.stream(), rows.labels, labels);
  SetElements(run.backend(), run.stream(), rows.weights, weights);
  SetElements(run.backend(), run.stream(), rows.positions, positions);
}

void RunRows(SegmentRun& run, int64_t first, int64_t count, bool adds) {
  SetRows(run, first, count);
  run.context().adds_gradients = adds;
  run.Forward(true);
  run.Backward();
}

// Returns the gradients of SmallNetwork: of kRows rows at once, or of a few at a time.
std::vector<double> GradientsOf(std::unique_ptr<Backend> backend, DType dtype, int64_t batch) {
  SegmentRun run(std::move(backend), SmallNetwork(),
                 {.dtype = dtype, .batch = batch, .accumulates = batch < kRows});
  for (int64_t first = 0; first < kRows; first += batch) RunRows(run, first, batch, first > 0);
  return run.Gradients();
}

// To a few roundings of fp64: a sum of rows is a sum in another order.
TEST(Accumulation, OfSmallBatchesIsTheBatchAtOnceOnTheOracle) {
  const auto at_once = GradientsOf(MakeOracleBackend(2), DType::kFloat64, kRows);
  const auto in_parts = GradientsOf(MakeOracleBackend(2), DType::kFloat64, kRowsOfBatch);
  ASSERT_EQ(at_once.size(), in_parts.size());
  for (size_t i = 0; i < at_once.size(); ++i) ASSERT_NEAR(in_parts[i], at_once[i], 1e-12) << i;
}

// fp32: a product of other sizes may sum in another order, 1e-6 through the layers. bf16: its
// rounded activations may then differ in the last bit, which is 2^-8.
TEST(Accumulation, OfSmallBatchesIsTheBatchAtOnce) {
  for (const DType dtype : TestedTypes()) {
    const auto at_once = GradientsOf(MakeTestedBackend(2), dtype, kRows);
    const auto in_parts = GradientsOf(MakeTestedBackend(2), dtype, kRowsOfBatch);
    EXPECT_LE(DistanceOf(in_parts, at_once), dtype == DType::kFloat32 ? 1e-5 : 1e-2)
        << NameOf(dtype);
  }
}

TEST(Accumulation, LeavesFrozenLayersAlone) {
  const SegmentSpec segment = SmallNetwork();
  SegmentRun run(MakeTestedBackend(2), segment, {.batch = kRowsOfBatch, .accumulates = true});
  // layer0, layer4, layer6 and layer9 have weights.
  std::vector<bool> learns(segment.items.size(), true);
  learns[4] = learns[9] = false;
  run.network().SetLearning(learns, false);
  run.Set(run.arenas().gradients,
          std::vector<double>(static_cast<size_t>(run.arenas().gradients.count()), 99));
  RunRows(run, 0, kRowsOfBatch, false);
  RunRows(run, kRowsOfBatch, kRowsOfBatch, true);
  for (const ArenaEntry& entry : run.parameter_layout().entries()) {
    const auto gradient = run.Gradient(entry.name);
    const auto untouched = std::count(gradient.begin(), gradient.end(), 99);
    const bool is_frozen = entry.name.starts_with("layer4") || entry.name.starts_with("layer9");
    EXPECT_EQ(untouched, is_frozen ? std::ssize(gradient) : 0) << entry.name;
  }
}

TEST(Accumulation, NeedsANetworkThatWasCompiledForIt) {
  TestedAndOracle both(SmallNetwork(), DType::kFloat32, kRowsOfBatch);
  for (SegmentRun* run : {&both.tested, &both.oracle}) {
    run->Forward(true);
    run->context().adds_gradients = true;
    EXPECT_THROW(run->Backward(), Error);
  }
}

// Running statistics move once per forward pass: by the second batch from where the first left
// them.
TEST(Accumulation, MovesRunningStatisticsWithEveryBatch) {
  const BatchNorm norm{.momentum = 0.3};
  TestedAndOracle both(SegmentOf(Shape{3, 4, 6}, {norm}), DType::kFloat32, 4);
  for (SegmentRun* run : {&both.tested, &both.oracle}) {
    const std::vector<double> start = run->BufferValues();
    const auto after = [&](const std::vector<uint64_t>& seeds) {
      run->Set(run->arenas().buffers, start);
      for (const uint64_t seed : seeds) {
        run->SetInput(seed);
        run->Forward(true);
      }
      return run->BufferValues();
    };
    const auto first = after({1}), second = after({2}), both_passes = after({1, 2});
    std::vector<double> want = first;
    for (size_t i = 0; i < want.size(); ++i) {
      const double statistic = start[i] + (second[i] - start[i]) / norm.momentum;
      want[i] += norm.momentum * (statistic - first[i]);
    }
    // Three roundings to fp32, one of them divided by the momentum.
    ExpectClose("running statistics", both_passes, want, {.of_rms = 1e-6});
    EXPECT_GT(DistanceOf(both_passes, second), 1e-2);
  }
}

}  // namespace
}  // namespace convoy
