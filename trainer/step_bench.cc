#include "trainer/step_bench.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>

#include "comm/step_watch.h"
#include "core/host/clock.h"
#include "core/host/process_memory.h"
#include "core/median.h"
#include "core/random.h"
#include "trainer/engine.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/compute_resources.h"
#include "trainer/ranks/step_verdict.h"
#include "trainer/run/run_setup.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

// Collects the times of each operation, in the order in which they first came.
class Collector final : public OperationTimer {
 public:
  void Record(const std::string& operation, double seconds) override {
    const auto [found, is_new] = times_.try_emplace(operation);
    if (is_new) order_.push_back(operation);
    found->second.push_back(seconds);
  }
  void Clear() {
    times_.clear();
    order_.clear();
  }
  std::vector<OperationRow> Rows() const {
    std::vector<OperationRow> rows;
    for (const std::string& name : order_) {
      rows.push_back({.name = name, .seconds = Median(times_.at(name))});
    }
    return rows;
  }

 private:
  std::map<std::string, std::vector<double>> times_;
  std::vector<std::string> order_;
};

// Noise of the network's input size: this replica's rows of a global batch.
Batch SyntheticBatch(const Shape& input, int classes, int64_t rows, int64_t first_position,
                     int64_t global_count, Backend& backend) {
  Batch batch{.global_count = global_count, .shape = input.Prepend(rows)};
  batch.pixels = backend.AllocateStaging(batch.shape.count());
  auto* pixels = static_cast<uint8_t*>(batch.pixels.data());
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t position = first_position + n;
    const RandomKey key{.purpose = Purpose::kSynthetic,
                        .position = static_cast<uint64_t>(position)};
    for (int64_t i = 0; i < input.count(); ++i) {
      const RandomWords words = RandomBlock(key, static_cast<uint32_t>(i / 16));
      pixels[n * input.count() + i] =
          static_cast<uint8_t>(words[static_cast<size_t>(i / 4 % 4)] >> (8 * (i % 4)));
    }
    batch.samples.push_back({.position = position,
                             .sample = position,
                             .label = static_cast<int32_t>(position % classes),
                             .weight = position < global_count ? 1.0f : 0.0f,
                             .mirror = static_cast<uint32_t>(position % 2)});
  }
  return batch;
}

int64_t PeakMemory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{1024} * usage.ru_maxrss;
}

// Returns what was carried in each of `steps` steps, which were all alike.
std::vector<ProcessGrid::Traffic> TrafficOfAStep(const ProcessGrid& grid, int64_t steps) {
  std::vector<ProcessGrid::Traffic> traffic = grid.CountedTraffic();
  for (ProcessGrid::Traffic& one : traffic) {
    CONVOY_CHECK(one.row.calls % steps == 0 && one.row.bytes % steps == 0,
                 "{}: {} calls and {} bytes in {} steps", one.row.what, one.row.calls,
                 one.row.bytes, steps);
    one.row.calls /= steps;
    one.row.bytes /= steps;
  }
  return traffic;
}

// Steps on one batch, queued and finished as training does it.
class BenchLoop {
 public:
  BenchLoop(Engine& engine, Batch& batch, int micro_batches)
      : world_(engine.world()),
        watchdog_(engine.grid().watchdog()),
        optimizer_(engine.optimizer()),
        step_(engine.step()),
        model_(engine.model()),
        batch_(batch),
        micro_batches_(micro_batches) {}

  void Run(int steps) {
    last_result_ = Clock::now();
    for (int i = 0; i < steps; ++i) {
      Queue();
      if (i >= step_.steps_ahead()) Finish();
    }
    for (int i = 0; i < std::min(steps, step_.steps_ahead()); ++i) Finish();
  }
  // Times so far do not count.
  void Forget() {
    times_.clear();
    seconds_.clear();
  }

  const std::vector<StepTimes>& times() const { return times_; }
  // From the result of one step to that of the next.
  const std::vector<double>& seconds() const { return seconds_; }
  // The mean loss of the very first step.
  double first_loss() const { return first_loss_; }

 private:
  void Queue() {
    world_.SetStep(++queued_);
    // Where the host takes part in every step, all ranks begin it together. Devices keep together
    // by themselves.
    if (step_.steps_ahead() == 0) {
      world_.all().Barrier("bench");
      last_result_ = Clock::now();
    }
    const StepRates rates = optimizer_.NextRates({});
    StepTimes& times = times_.emplace_back();
    for (int micro = 0; micro < micro_batches_; ++micro) {
      batch_.micro = {.index = micro, .count = micro_batches_};
      times += step_.Run(batch_, rates, 0);
      model_.Prefetch(batch_);
    }
  }

  void Finish() {
    const StepWatch watch(watchdog_, ++finished_);
    const StepVerdict verdict = Agree(world_, {.loss = step_.ReadResult().loss});
    seconds_.push_back(SecondsSince(last_result_));
    last_result_ = Clock::now();
    if (finished_ == 1) first_loss_ = verdict.loss.loss / verdict.loss.weight;
  }

  World& world_;
  Watchdog* watchdog_;
  Optimizer& optimizer_;
  TrainingStep& step_;
  RankModel& model_;
  Batch& batch_;
  const int micro_batches_;
  int64_t queued_ = 0, finished_ = 0;
  double first_loss_ = 0;
  std::vector<StepTimes> times_;
  std::vector<double> seconds_;
  Clock::time_point last_result_;
};

void RequirePlausible(double loss, int classes) {
  const double chance = std::log(static_cast<double>(classes));
  if (std::isfinite(loss) && loss > 0.3 * chance && loss < 3 * chance + 1) return;
  throw Error(ExitCode::kNumbers,
              fmt::format("the first step's loss is {}, expected about {:.2f} of a fresh network "
                          "with {} classes",
                          loss, chance, classes),
              "this is a defect of Convoy; please report it with this line");
}

}  // namespace

StepBenchResult BenchStep(const StepBenchOptions& options, World& world, Log& log) {
  RunTogether(world, [&] { RequireMicroBatches(options.batch_size, options.accumulate); });
  ComputeResources resources = MakeComputeResources(options.compute, world, log);
  Backend& backend = *resources.backend;
  ProcessGrid& grid = *resources.grid;
  const NetworkSpec network = MakeModel(options.model, options.model_options);
  const std::optional<int64_t> memory_before = ProportionalMemory();
  // So small a rate that many steps on one batch of noise stay what a first step is.
  Engine engine(resources, network,
                {.dtype = options.compute.dtype,
                 .optimizer = {.rule = options.rule, .lr = 1e-6, .clip_norm = options.clip_norm},
                 .overlap = options.overlap,
                 .reduce_dtype = options.reduce_dtype,
                 .record_steps = options.compute.record_steps,
                 .micro_batches = options.accumulate,
                 .shard_update = options.shard_update});
  engine.store().Initialize(0, *resources.stream);

  const GridShape& shape = grid.shape();
  const int64_t row_parts = int64_t{shape.row_parts()} * options.accumulate;
  const int64_t rows = (options.batch_size + row_parts - 1) / row_parts;
  const int64_t part = shape.RankAlong(Axis::kReplica | Axis::kShard, grid.place());
  Batch batch = SyntheticBatch(network.input, network.classes, rows, part * rows,
                               options.batch_size, backend);
  Preprocessing preprocessing;
  preprocessing.mean.assign(static_cast<size_t>(network.input[2]), 120);
  std::vector<KernelMeasurement> measured = engine.Compile(rows, preprocessing, log);
  TrainingStep& step = engine.step();
  // On the host, timing operations costs nothing. A device is timed without that first, in one
  // piece as it trains, and then once more operation by operation.
  const bool times_apart = backend.device().kind == DeviceKind::kCuda;
  Collector collector;
  if (!times_apart) step.SetTimer(&collector);

  StepBenchResult result{.shards_update = engine.plan().options.shards_update,
                         .backend = resources.Describe(),
                         .measured = std::move(measured)};
  BenchLoop loop(engine, batch, options.accumulate);
  loop.Run(options.warm_up);
  collector.Clear();
  loop.Forget();
  grid.ResetTraffic();
  loop.Run(options.steps);
  result.first_loss = loop.first_loss();
  RequirePlausible(result.first_loss, network.classes);
  result.step_s = loop.seconds();
  const auto median_of = [&](double StepTimes::*member) {
    std::vector<double> values;
    for (const StepTimes& one : loop.times()) values.push_back(one.*member);
    return Median(values);
  };
  result.forward_s = median_of(&StepTimes::forward_s);
  result.backward_s = median_of(&StepTimes::backward_s);
  result.exchange_wait_s = median_of(&StepTimes::exchange_wait_s);
  result.reduce_wait_s = median_of(&StepTimes::reduce_wait_s);
  result.update_s = median_of(&StepTimes::update_s);
  result.images_per_s = static_cast<double>(options.batch_size) / Median(result.step_s);
  result.kernels = backend.kernel_choices();
  result.why_not_recorded = step.why_not_recorded();
  result.peak_memory_bytes = PeakMemory();
  result.device_memory_bytes = backend.device_memory_in_use();
  if (memory_before) {
    result.memory_bytes = ProportionalMemory().value_or(*memory_before) - *memory_before;
  }
  if (times_apart) {
    // Recordings count nothing when they are queued again.
    grid.ResetTraffic();
    step.SetTimer(&collector);
    loop.Run(options.steps);
  }
  result.traffic = TrafficOfAStep(grid, options.steps);
  result.operations = collector.Rows();
  if (times_apart) {
    // The host only queued the work: what it took is the sum of the operations.
    const auto sum_of = [&](std::string_view phase) {
      double sum = 0;
      for (const OperationRow& row : result.operations) {
        if (row.name.find(phase) != std::string::npos) sum += row.seconds;
      }
      return sum;
    };
    result.forward_s = sum_of(" forward");
    result.backward_s = sum_of(" backward");
    result.exchange_wait_s = sum_of(" exchange ");
    result.reduce_wait_s = sum_of(" exposed reduction");
    result.update_s = sum_of(" update");
  }
  if (!options.limits) return result;

  for (Network* segment : engine.model().networks()) {
    for (const OperationLimit& limit : segment->MeasureLimits(3)) {
      result.limit_s += limit.seconds;
      for (OperationRow& row : result.operations) {
        if (row.name != limit.operation) continue;
        row.limit_s = limit.seconds;
        row.flops = limit.flops;
        row.bytes = limit.bytes;
      }
    }
  }
  return result;
}

}  // namespace convoy
