// tests/trainer/harness.h - one rank of a training run on batches that a test makes by hand: the
// real plan, model, step and optimiser, without loaders and files.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/buckets.h"
#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/grid_shape.h"
#include "comm/world.h"
#include "layers/backend.h"
#include "layers/models.h"
#include "trainer/engine.h"
#include "trainer/plan/plan.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/step/sharded_state.h"

namespace convoy {

struct HarnessOptions {
  NetworkSpec network;
  GridShape grid;
  int64_t batch = 8;   // global
  int accumulate = 1;  // micro-batches of a step
  OptimizerOptions optimizer;
  Preprocessing preprocessing;
  std::function<std::unique_ptr<Backend>()> make_backend = [] { return MakeOracleBackend(1); };
  DType dtype = DType::kFloat64;
  uint64_t seed = 1;
  Overlap overlap = Overlap::kOn;
  ShardUpdate shard_update = ShardUpdate::kOff;
  DType reduce_dtype = DType::kFloat32;
  bool records = true;
  // Something done wrong on purpose, to see that a test notices.
  enum class Mutation {
    kNone,
    kSwapSlices,
    kSkipBucket,
    kWrongAxes,
    kLabelsOfOthers,
    kSkipMicroBatch
  };
  Mutation mutation = Mutation::kNone;
};

class Harness {
 public:
  Harness(World& world, const HarnessOptions& options)
      : options_(options),
        resources_(ResourcesOf(world, options)),
        engine_(resources_, options.network,
                {.dtype = options.dtype,
                 .optimizer = options.optimizer,
                 .overlap = options.overlap,
                 .reduce_dtype = options.reduce_dtype,
                 .record_steps = options.records,
                 .micro_batches = options.accumulate,
                 .shard_update = options.shard_update,
                 .plan_buckets = [this](const RankPlan& plan) { return BucketsOf(plan); }}),
        rows_((MicroBatchSize() + options.grid.row_parts() - 1) / options.grid.row_parts()) {
    engine_.store().Initialize(options.seed, stream());
    Log log(LogLevel::kWarning, world.rank());
    engine_.Compile(rows_, options.preprocessing, log);
    if (options.mutation == HarnessOptions::Mutation::kSwapSlices) SwapSlices();
  }

  // Samples of a micro-batch over all ranks; of the batch if a step has one.
  int64_t MicroBatchSize() const {
    return (options_.batch + options_.accumulate - 1) / options_.accumulate;
  }

  // Rows of a batch of this rank, padding included.
  int64_t rows() const { return rows_; }
  // Rows of this rank of a global batch of `count` samples (all of them, or fewer in the last
  // batch of an epoch). pixel(position, i) gives byte i (H, W, C order) of a sample,
  // label(position) its class.
  template <typename Pixel, typename Label>
  Batch MakeBatch(int64_t epoch, int64_t first_position, int64_t count, Pixel&& pixel,
                  Label&& label) const {
    const GridShape& grid = options_.grid;
    const int64_t parts = grid.row_parts();
    const int64_t part = grid.RankAlong(Axis::kReplica | Axis::kShard, resources_.grid->place());
    const int64_t begin = part * count / parts, end = (part + 1) * count / parts;
    const Shape& input = options_.network.input;
    Batch batch{.epoch = epoch, .global_count = count, .shape = input.Prepend(rows_)};
    batch.pixels = AllocateHost(batch.shape.count());
    batch.samples.resize(static_cast<size_t>(rows_));
    auto* bytes = static_cast<uint8_t*>(batch.pixels.data());
    for (int64_t n = begin; n < end; ++n) {
      const int64_t row = n - begin, position = first_position + n;
      const bool swaps_labels = options_.mutation == HarnessOptions::Mutation::kLabelsOfOthers;
      const int64_t labelled = swaps_labels ? first_position + (n + 1) % count : position;
      for (int64_t i = 0; i < input.count(); ++i) {
        bytes[row * input.count() + i] = pixel(position, i);
      }
      batch.samples[static_cast<size_t>(row)] = {
          .position = position, .sample = position, .label = label(labelled), .weight = 1};
    }
    return batch;
  }

  // One step; the mean loss over the global batch, the same on every rank.
  double Step(const Batch& batch, double epoch_time = 0) {
    QueueStep(batch, epoch_time);
    return FinishStep();
  }
  // The same in two parts: as many as steps_ahead() may be queued before the first is finished.
  // Of a step in micro-batches, each is queued by itself.
  void QueueStep(const Batch& batch, double epoch_time) {
    if (batch.micro.index == 0) {
      rates_ = engine_.optimizer().NextRates(
          {.epoch = epoch_time, .step_epochs = 1e-6, .total_epochs = 1000});
    }
    const bool skips = options_.mutation == HarnessOptions::Mutation::kSkipMicroBatch &&
                       batch.micro.index > 0 && !batch.micro.is_last();
    if (!skips) step().Run(batch, rates_, options_.seed);
    if (batch.micro.is_last()) counts_.push_back(batch.global_count);
  }
  double FinishStep() {
    double loss = step().ReadResult().loss.loss;
    Sum(world().all(), &loss, 1);
    loss /= static_cast<double>(counts_.front());
    counts_.pop_front();
    return loss;
  }
  // Sets what going on from a checkpoint would: every parameter has had so many updates.
  void SetUpdates(int64_t updates) {
    Optimizer& optimizer = engine_.optimizer();
    optimizer.SetUpdates(std::vector<int64_t>(optimizer.updates().size(), updates));
  }
  int steps_ahead() { return engine_.step().steps_ahead(); }

  static void Sum(Communicator& group, double* values, int64_t count) {
    HostStream stream;
    group.AllReduce(stream, {values, DType::kFloat64, Shape{count}}, ReduceOp::kSum, "test")
        .Wait(stream);
  }

  // The uncut tensor of a name in one of the arenas, put together from the ranks of the replica;
  // fp64.
  std::vector<double> Uncut(const Tensor& arena, const std::string& name) {
    for (const ParameterSlice& slice : MakePlan(options_.network, {}, 0).parameters) {
      if (slice.uncut.name != name) continue;
      std::vector<double> values(static_cast<size_t>(slice.uncut.shape.count()));
      for (const ParameterSlice& own : plan().parameters) {
        if (own.uncut.name != name || !plan().IsFirstAlong(own.copies - Axis::kReplica)) continue;
        const std::vector<double> part = Read(store().parameter_layout().View(arena, name));
        const int64_t first = own.begin * slice.uncut.shape.DropFirst().count();
        std::copy(part.begin(), part.end(), values.begin() + first);
      }
      Sum(grid().HostAlong(Axis::kShard | Axis::kTower), values.data(),
          static_cast<int64_t>(values.size()));
      return values;
    }
    ADD_FAILURE() << "no parameter " << name;
    return {};
  }

  // State `index` of the optimiser in the layout of the parameters.
  Tensor State(size_t index) { return WholeState(plan(), store(), index, stream(), grid()); }

  // What a tensor of the device holds, fp32 or fp64; and back.
  std::vector<double> Read(const Tensor& tensor) {
    std::vector<double> values(static_cast<size_t>(tensor.count()));
    if (tensor.dtype == DType::kFloat64) {
      backend().CopyToHost(stream(), tensor, values.data());
    } else {
      std::vector<float> single(values.size());
      CONVOY_CHECK(tensor.dtype == DType::kFloat32, "{}", NameOf(tensor.dtype));
      backend().CopyToHost(stream(), tensor, single.data());
      std::copy(single.begin(), single.end(), values.begin());
    }
    return values;
  }
  void Write(const std::vector<double>& values, const Tensor& tensor) {
    if (tensor.dtype == DType::kFloat64) {
      backend().CopyToDevice(stream(), values.data(), tensor);
    } else {
      const std::vector<float> single(values.begin(), values.end());
      backend().CopyToDevice(stream(), single.data(), tensor);
    }
  }

  Engine& engine() { return engine_; }
  World& world() { return engine_.world(); }
  ProcessGrid& grid() { return engine_.grid(); }
  const RankPlan& plan() const { return engine_.plan(); }
  ParameterStore& store() { return engine_.store(); }
  Backend& backend() { return engine_.backend(); }
  Stream& stream() { return engine_.stream(); }
  RankModel& model() { return engine_.model(); }
  TrainingStep& step() { return engine_.step(); }

 private:
  std::vector<BucketRange> BucketsOf(const RankPlan& plan) const {
    std::vector<BucketRange> buckets = PlanBuckets(plan);
    if (options_.mutation == HarnessOptions::Mutation::kSkipBucket) buckets.erase(buckets.begin());
    if (options_.mutation == HarnessOptions::Mutation::kWrongAxes) {
      for (BucketRange& bucket : buckets) bucket.axes = Axis::kReplica;
    }
    return buckets;
  }

  // Ranks that are threads share a device, so their collectives go through the host.
  static ComputeResources ResourcesOf(World& world, const HarnessOptions& options) {
    ComputeResources resources{.world = &world};
    resources.backend = options.make_backend();
    resources.stream = resources.backend->MakeStream();
    const std::shared_ptr<Backend> backend = resources.backend;
    resources.grid = std::make_unique<ProcessGrid>(
        world, options.grid,
        GroupOptions{.device = backend->device(),
                     .communicator = CommunicatorKind::kMpi,
                     .device_uuid = "shared",
                     .make_stream = [backend] { return backend->MakeStream(); },
                     .allocate_pinned = StagingMemoryOf(resources)});
    return resources;
  }

  // Each of two ranks starts with the other's rows of a weight that is cut.
  void SwapSlices() {
    const std::string swapped = plan().grid.towers > 1 ? "conv2.weight" : "fc4.weight";
    for (const ParameterSlice& slice : plan().parameters) {
      if (slice.uncut.name != swapped) continue;
      const int64_t other = slice.uncut.shape[0] - slice.count - slice.begin;
      const Tensor weights =
          store().parameter_layout().View(store().parameters(), slice.uncut.name);
      std::vector<double> values(static_cast<size_t>(weights.count()));
      Initialize(slice.uncut, slice.layer_index, other, options_.seed,
                 {values.data(), DType::kFloat64, weights.shape});
      Write(values, weights);
    }
  }

  HarnessOptions options_;
  ComputeResources resources_;
  Engine engine_;
  int64_t rows_;
  StepRates rates_;
  std::deque<int64_t> counts_;  // samples of the batches that are under way
};

inline double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

}  // namespace convoy
