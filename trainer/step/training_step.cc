#include "trainer/step/training_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/host/clock.h"
#include "trainer/step/step_interpreter.h"

namespace convoy {
namespace {

// Norms take all gradients: they are summed on every rank, though each updates a part.
std::vector<Bucket> WithGroups(const std::vector<BucketRange>& ranges, ProcessGrid& grid,
                               bool needs_norms) {
  std::vector<Bucket> buckets;
  buckets.reserve(ranges.size());
  for (const BucketRange& range : ranges) {
    buckets.push_back({.name = range.name,
                       .begin = range.begin,
                       .count = range.count,
                       .group = &grid.Along(range.axes),
                       .scatters = range.is_sharded && !needs_norms});
  }
  return buckets;
}

BucketOptions WithConversion(BucketOptions options, Backend& backend) {
  options.convert = [&backend](Stream& stream, const Tensor& from, const Tensor& to) {
    backend.ConvertTensor(stream, from, to);
  };
  return options;
}

// Whether the collectives that sum gradients are queued on the device, so that the host waits for
// none of them.
bool ReducesOnDevice(ProcessGrid& grid) {
  return grid.Along(Axis::kReplica | Axis::kShard).queues_on_device() &&
         grid.Along(Axis::kReplica).queues_on_device();
}
bool MovesActivationsOnDevice(ProcessGrid& grid) {
  return grid.Along(Axis::kShard | Axis::kTower).queues_on_device();
}

// Whether the update needs all masters, and not only what layers read.
bool GathersMasters(const ParameterStore& store, const UpdateRule& rule) {
  return NeedsWeightNorms(rule) && store.compute().data != store.parameters().data;
}

template <typename T>
bool AllFinite(const std::vector<char>& bytes) {
  for (size_t i = 0; i < bytes.size(); i += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + i, sizeof(T));
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace

StepTimes& StepTimes::operator+=(const StepTimes& other) {
  forward_s += other.forward_s;
  backward_s += other.backward_s;
  exchange_wait_s += other.exchange_wait_s;
  statistics_wait_s += other.statistics_wait_s;
  reduce_wait_s += other.reduce_wait_s;
  update_s += other.update_s;
  return *this;
}

TrainingStep::TrainingStep(const StepParts& parts, const std::vector<BucketRange>& buckets,
                           const TrainingStepOptions& options)
    : TrainingStep(parts, buckets, options, parts.optimizer.UpdatesOf(buckets)) {}

TrainingStep::TrainingStep(const StepParts& parts, const std::vector<BucketRange>& buckets,
                           const TrainingStepOptions& options, const UpdateOptions& updates)
    : backend_(parts.backend),
      stream_(parts.stream),
      plan_(parts.plan),
      store_(parts.store),
      model_(parts.model),
      grid_(parts.grid),
      parameters_(store_.parameter_layout().entries()),
      buckets_(WithGroups(buckets, grid_, NeedsNorms(updates)), store_.gradients(),
               WithConversion(options.buckets, backend_)),
      update_stream_(ReducesOnDevice(grid_) ? backend_.MakeStream() : nullptr),
      bucket_ranges_(buckets),
      records_(options.records && ReducesOnDevice(grid_) && MovesActivationsOnDevice(grid_)),
      results_(static_cast<size_t>((kMaxStepsAhead + 1) * options.micro_batches)),
      non_finite_(backend_.Allocate(sizeof(int32_t))),
      needs_norms_(NeedsNorms(updates)),
      updater_(backend_.CompileUpdate({.parameters = store_.parameters(),
                                       .compute = store_.compute(),
                                       .gradients = store_.gradients(),
                                       .states = store_.states(),
                                       .non_finite = ViewOf(non_finite_, DType::kInt32, Shape{1})},
                                      updates)),
      norm_rows_(NormRowsOf(plan_)),
      gathers_masters_(GathersMasters(store_, updates.rule)),
      overlap_(options.buckets.overlap) {
  for (const BucketRange& bucket : buckets) gather_names_.push_back("updated " + bucket.name);
  for (ResultSlot& slot : results_) {
    slot.loss = backend_.AllocateStaging(sizeof(LossSums));
    slot.non_finite = backend_.AllocateStaging(sizeof(int32_t));
    *static_cast<LossSums*>(slot.loss.data()) = {};
  }
}

// The steps use the recording, and memory that goes with it.
TrainingStep::~TrainingStep() {
  try {
    stream_.Synchronize();
  } catch (const Error&) {
    // The device has failed; whoever waited for its work has said so.
  }
}

void TrainingStep::SetLearning(const std::vector<bool>& learns) {
  if (learns == learning_) return;
  learning_ = learns;
  for (const auto& part : parts_) part->runner->Forget();
  model_.SetLearning(learns);
  learning_ranges_.clear();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (learns[static_cast<size_t>(plan_.parameters[i].layer_index)]) {
      learning_ranges_.push_back({parameters_[i].offset, parameters_[i].shape.count()});
    }
  }
}

// Parts with the same operations are one: they are recorded once.
TrainingStep::Part& TrainingStep::PartOf(MicroBatch micro) {
  Part*& known = part_of_[micro];
  if (known != nullptr) return *known;
  const StepProgram program = TrainingProgram(
      plan_, bucket_ranges_, {.micro_batches = micro.count, .needs_norms = needs_norms_});
  StepProgram operations;
  int loads = 0;
  for (const StepOperation& operation : program) {
    if (std::holds_alternative<steps::Load>(operation)) ++loads;
    if (loads == micro.index + 1) operations.push_back(operation);
  }
  for (const auto& part : parts_) {
    if (part->operations == operations) known = part.get();
  }
  if (known == nullptr) {
    parts_.push_back(std::make_unique<Part>(
        Part{.operations = std::move(operations), .runner = backend_.MakeStepRunner(records_)}));
    known = parts_.back().get();
  }
  return *known;
}

StepTimes TrainingStep::Run(const Batch& batch, const StepRates& rates, uint64_t seed) {
  StepTimes times;
  if (batch.micro.index == 0) {
    SetLearning(rates.learns);
    updater_->SetRates(stream_, rates.parameters);
  }
  const StepContext context{.stream = &stream_,
                            .training = true,
                            .seed = seed,
                            .epoch = batch.epoch,
                            .loss_scale = 1.0 / static_cast<double>(batch.global_count),
                            .timer = timer_};
  const Clock::time_point start = Clock::now();
  model_.Load(stream_, batch);
  times.forward_s = SecondsSince(start);
  Part& part = PartOf(batch.micro);
  bool was_queued = false;
  const auto queue_work = [&] {
    // A recording of it failed half way.
    if (std::exchange(was_queued, true)) buckets_.Abandon();
    Interpreter(*this, context, times).Run(part.operations);
  };
  if (timer_ != nullptr) {
    queue_work();
  } else {
    part.runner->Run(stream_, context, queue_work);
  }
  QueueResult(batch.micro);
  return times;
}

std::string TrainingStep::why_not_recorded() const {
  for (const auto& part : parts_) {
    const std::string reason = part->runner->why_not_recorded();
    if (!reason.empty()) return reason;
  }
  return {};
}

// Apart from the step's work, since a recording would copy to the same place every time.
void TrainingStep::QueueResult(MicroBatch micro) {
  ResultSlot& slot = results_[next_result_];
  CONVOY_CHECK(slot.copied == nullptr, "{} results are unread", results_.size());
  next_result_ = (next_result_ + 1) % results_.size();
  if (const Tensor loss = model_.loss_sums()) {
    stream_.Copy(slot.loss.data(), loss.data, loss.bytes());
  }
  stream_.Copy(slot.non_finite.data(), non_finite_.data(), sizeof(int32_t));
  slot.copied = stream_.Record();
  slot.ends_step = micro.is_last();
}

StepResult TrainingStep::ReadResult() {
  StepResult result;
  for (bool ends_step = false; !ends_step;) {
    ResultSlot& slot = results_[next_read_];
    CONVOY_CHECK(slot.copied != nullptr, "no result is unread");
    next_read_ = (next_read_ + 1) % results_.size();
    slot.copied->Synchronize();
    slot.copied.reset();
    result.loss += *static_cast<const LossSums*>(slot.loss.data());
    result.non_finite |= *static_cast<const int32_t*>(slot.non_finite.data()) != 0;
    ends_step = slot.ends_step;
  }
  return result;
}

Request TrainingStep::GatherParameters(Stream& stream, int index) {
  const BucketRange& bucket = bucket_ranges_[static_cast<size_t>(index)];
  const Tensor& arena = gathers_masters_ ? store_.parameters() : store_.compute();
  return grid_.Along(bucket.axes)
      .AllGatherInPlace(stream, arena.Range(bucket.begin, bucket.count),
                        gather_names_[static_cast<size_t>(index)].c_str());
}

void TrainingStep::FinishGather(Stream& stream, int index, Request request) {
  request.Wait(stream);
  const BucketRange& bucket = bucket_ranges_[static_cast<size_t>(index)];
  if (!gathers_masters_) return;
  backend_.RefreshCompute(stream, store_.parameters().Range(bucket.begin, bucket.count),
                          store_.compute().Range(bucket.begin, bucket.count));
}

void TrainingStep::QueueNorms(Stream& stream) {
  const Tensor table = updater_->SumSquares(stream);
  const int64_t width = table.count() / 2;
  for (const NormRows& rows : norm_rows_) {
    for (const int64_t half : {int64_t{0}, width}) {
      const Tensor part = table.Range(half + rows.begin, rows.count);
      grid_.Along(rows.axes).AllReduce(stream, part, ReduceOp::kSum, "norms").Wait(stream);
    }
  }
  updater_->Scale(stream);
}

std::string TrainingStep::FirstNonFinite() {
  const auto is_finite = [&](const Tensor& tensor) {
    std::vector<char> values(static_cast<size_t>(tensor.bytes()));
    backend_.CopyToHost(stream_, tensor, values.data());
    return tensor.dtype == DType::kFloat64 ? AllFinite<double>(values) : AllFinite<float>(values);
  };
  const ArenaLayout& layout = store_.parameter_layout();
  const bool has_gradients = results_[next_read_].copied == nullptr;
  for (size_t i = parameters_.size(); i-- > 0;) {
    const std::string& name = parameters_[i].name;
    if (has_gradients && !is_finite(layout.View(store_.gradients(), name))) {
      return "the gradient of " + name;
    }
    if (!is_finite(layout.View(store_.parameters(), name))) return name;
  }
  return {};
}

}  // namespace convoy
