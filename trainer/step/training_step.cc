#include "trainer/step/training_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "core/host/clock.h"
#include "layers/phase_timer.h"

namespace convoy {
namespace {

std::vector<Bucket> WithGroup(const std::vector<BucketRange>& ranges, Communicator& replicas) {
  std::vector<Bucket> buckets;
  buckets.reserve(ranges.size());
  for (const BucketRange& range : ranges) {
    buckets.push_back({range.name, range.begin, range.count, &replicas});
  }
  return buckets;
}

BucketOptions WithConversion(BucketOptions options, Backend& backend) {
  options.convert = [&backend](Stream& stream, const Tensor& from, const Tensor& to) {
    backend.ConvertTensor(stream, from, to);
  };
  return options;
}

// Tells the buckets how far backward is.
class BucketObserver final : public BackwardObserver {
 public:
  BucketObserver(GradientBuckets& buckets, Stream& stream) : buckets_(buckets), stream_(stream) {}
  void GradientReady(int64_t begin, int64_t count) override {
    buckets_.GradientReady(stream_, begin, count);
  }
  void WeightsReleased(int64_t begin, int64_t count) override {
    buckets_.WeightsReleased(begin, count);
  }

 private:
  GradientBuckets& buckets_;
  Stream& stream_;
};

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

TrainingStep::TrainingStep(const StepParts& parts, const std::vector<BucketRange>& buckets,
                           const TrainingStepOptions& options)
    : backend_(parts.backend),
      stream_(parts.stream),
      plan_(parts.plan),
      store_(parts.store),
      model_(parts.model),
      grid_(parts.grid),
      parameters_(store_.parameter_layout().entries()),
      buckets_(WithGroup(buckets, grid_.replicas()), store_.gradients(),
               WithConversion(options.buckets, backend_)),
      update_stream_(grid_.replicas().queues_on_device() ? backend_.MakeStream() : nullptr),
      runner_(backend_.MakeStepRunner(options.records && grid_.replicas().queues_on_device() &&
                                      grid_.towers().queues_on_device())),
      non_finite_(backend_.Allocate(sizeof(int32_t))),
      needs_norms_(NeedsNorms(parts.optimizer.UpdatesOf(buckets))),
      updater_(backend_.CompileUpdate({.parameters = store_.parameters(),
                                       .compute = store_.compute(),
                                       .gradients = store_.gradients(),
                                       .states = store_.states(),
                                       .non_finite = ViewOf(non_finite_, DType::kInt32, Shape{1})},
                                      parts.optimizer.UpdatesOf(buckets))),
      overlap_(options.buckets.overlap) {
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
  runner_->Forget();
  model_.SetLearning(learns);
  learning_ranges_.clear();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (learns[static_cast<size_t>(plan_.parameters[i].layer_index)]) {
      learning_ranges_.push_back({parameters_[i].offset, parameters_[i].shape.count()});
    }
  }
}

StepTimes TrainingStep::Run(const Batch& batch, const StepRates& rates, uint64_t seed) {
  StepTimes times;
  SetLearning(rates.learns);
  updater_->SetRates(stream_, rates.parameters);
  StepContext context{.stream = &stream_,
                      .training = true,
                      .seed = seed,
                      .epoch = batch.epoch,
                      .loss_scale = 1.0 / static_cast<double>(batch.global_count),
                      .timer = timer_};
  if (grid_.replicas().size() > 1) {
    context.reduce_statistics = [this, &times](Stream& stream, const Tensor& values) {
      const Clock::time_point wait_start = Clock::now();
      grid_.replicas().AllReduce(stream, values, ReduceOp::kSum, "batch norm").Wait(stream);
      times.statistics_wait_s += SecondsSince(wait_start);
    };
  }

  Clock::time_point start = Clock::now();
  model_.Load(stream_, batch);
  times.forward_s = SecondsSince(start);
  bool was_queued = false;
  const auto queue_work = [&] {
    // A recording of it failed half way.
    if (std::exchange(was_queued, true)) buckets_.Abandon();
    Queue(context, times);
  };
  if (timer_ != nullptr) {
    queue_work();
  } else {
    runner_->Run(stream_, context, queue_work);
  }
  QueueResult();
  return times;
}

// Apart from the step's work, since a recording would copy to the same place every time.
void TrainingStep::QueueResult() {
  ResultSlot& slot = results_[next_result_];
  CONVOY_CHECK(slot.copied == nullptr, "{} results are unread", results_.size());
  next_result_ = (next_result_ + 1) % results_.size();
  if (const Tensor loss = model_.loss_sums()) {
    stream_.Copy(slot.loss.data(), loss.data, loss.bytes());
  }
  stream_.Copy(slot.non_finite.data(), non_finite_.data(), sizeof(int32_t));
  slot.copied = stream_.Record();
}

StepResult TrainingStep::ReadResult() {
  ResultSlot& slot = results_[next_read_];
  CONVOY_CHECK(slot.copied != nullptr, "no result is unread");
  next_read_ = (next_read_ + 1) % results_.size();
  slot.copied->Synchronize();
  slot.copied.reset();
  return {.loss = *static_cast<const LossSums*>(slot.loss.data()),
          .non_finite = *static_cast<const int32_t*>(slot.non_finite.data()) != 0};
}

void TrainingStep::Queue(const StepContext& context, StepTimes& times) {
  const double waited_before = model_.exchange_wait_s();
  Clock::time_point start = Clock::now();
  model_.Forward(context);
  times.forward_s += SecondsSince(start);

  start = Clock::now();
  const std::vector<Bucket>& buckets = buckets_.buckets();
  std::vector<bool> is_updated(buckets.size());
  // Updates come after backward if operations are timed, to tell their time; without overlap, since
  // an update waits for its bucket's reduction; and if they need norms, which take all gradients.
  const bool updates_beside =
      update_stream_ != nullptr && timer_ == nullptr && overlap_ == Overlap::kOn && !needs_norms_;
  const auto update_beside = [&](int index) {
    update_stream_->WaitFor(*stream_.Record());
    buckets_.Wait(*update_stream_, index);
    updater_->Run(*update_stream_, index);
    is_updated[static_cast<size_t>(index)] = true;
  };
  buckets_.Begin(learning_ranges_, updates_beside ? update_beside : std::function<void(int)>());
  BucketObserver observer(buckets_, stream_);
  model_.Backward(context, observer);
  times.backward_s = SecondsSince(start);
  times.exchange_wait_s = model_.exchange_wait_s() - waited_before;

  // The other buckets are updated after all of that. A stream that did nothing is not waited for: a
  // recording knows only streams that took part in it.
  if (std::find(is_updated.begin(), is_updated.end(), true) != is_updated.end()) {
    stream_.WaitFor(*update_stream_->Record());
  }
  const auto wait = [&](size_t b) {
    const Clock::time_point wait_start = Clock::now();
    const PhaseTimer timer(context, buckets[b].name, "exposed reduction");
    buckets_.Wait(stream_, static_cast<int>(b));
    times.reduce_wait_s += SecondsSince(wait_start);
  };
  const auto update = [&](size_t b) {
    const Clock::time_point update_start = Clock::now();
    const PhaseTimer timer(context, buckets[b].name, "update");
    updater_->Run(stream_, static_cast<int>(b));
    times.update_s += SecondsSince(update_start);
  };
  if (needs_norms_) {
    for (size_t b = 0; b < buckets.size(); ++b) wait(b);
    const Clock::time_point norms_start = Clock::now();
    {
      const PhaseTimer timer(context, "norms", "update");
      QueueNorms();
    }
    times.update_s += SecondsSince(norms_start);
    for (size_t b = 0; b < buckets.size(); ++b) update(b);
    return;
  }
  for (size_t b = 0; b < buckets.size(); ++b) {
    if (is_updated[b]) continue;
    wait(b);
    update(b);
  }
}

void TrainingStep::QueueNorms() {
  const Tensor table = updater_->SumSquares(stream_);
  Communicator& towers = grid_.towers();
  if (towers.size() > 1) towers.AllReduce(stream_, table, ReduceOp::kSum, "norms").Wait(stream_);
  updater_->Scale(stream_);
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
