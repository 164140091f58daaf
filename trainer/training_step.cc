#include "trainer/training_step.h"

#include <cmath>
#include <cstring>

#include "core/clock.h"

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

// Hands the ranges of backward to the buckets.
class Starter final : public BackwardObserver {
 public:
  Starter(GradientBuckets& buckets, Stream& stream) : buckets_(buckets), stream_(stream) {}
  void GradientReady(int64_t begin, int64_t count) override {
    buckets_.GradientReady(stream_, begin, count);
  }
  // Updates come after backward here, so nothing waits for the weights.
  void WeightsReleased(int64_t, int64_t) override {}

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

TrainingStep::TrainingStep(Backend& backend, Stream& stream, const RankPlan& plan,
                           const ParameterStore& store, RankModel& model, ProcessGrid& grid,
                           const Optimizer& optimizer, const std::vector<BucketRange>& buckets,
                           const TrainingStepOptions& options)
    : backend_(backend),
      stream_(stream),
      store_(store),
      model_(model),
      grid_(grid),
      optimizer_(optimizer),
      parameters_(store.parameter_layout().entries()),
      buckets_(WithGroup(buckets, grid.replicas()), store.gradients(),
               WithConversion(options.buckets, backend)),
      runner_(backend.MakeStepRunner(options.records && grid.replicas().queues_on_device() &&
                                     grid.towers().queues_on_device())),
      non_finite_(backend.Allocate(sizeof(int32_t))) {
  Shape input = plan.network.input;
  for (const LayerSpec& layer : plan.network.layers) {
    if (!ParametersOf(layer, input).empty()) layers_.push_back(layer.name);
    input = OutputShape(layer, input);
  }
  for (const ParameterSlice& slice : plan.parameters) {
    owner_layer_.push_back(plan.network.layers[static_cast<size_t>(slice.layer_index)].name);
  }
}

void TrainingStep::SetLearning(const ScheduleInputs& inputs, double step_epochs) {
  std::vector<bool> learning;
  for (const std::string& layer : layers_) {
    learning.push_back(optimizer_.Learns(layer, inputs, step_epochs));
  }
  if (learning == learning_) return;
  learning_ = learning;
  runner_->Forget();
  const auto learns = [&](const std::string& layer) {
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (layers_[i] == layer) return static_cast<bool>(learning_[i]);
    }
    return false;
  };
  model_.SetLearning(learns);
  learning_ranges_.clear();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (learns(owner_layer_[i])) {
      learning_ranges_.push_back({parameters_[i].offset, parameters_[i].shape.count()});
    }
  }
}

StepTimes TrainingStep::Run(const Batch& batch, const ScheduleInputs& inputs, double step_epochs,
                            uint64_t seed) {
  StepTimes times;
  SetLearning(inputs, step_epochs);
  const std::vector<UpdateRange> ranges = optimizer_.RangesAt(inputs, step_epochs);
  StepContext context{.stream = &stream_,
                      .training = true,
                      .seed = seed,
                      .epoch = batch.epoch,
                      .loss_scale = 1.0 / static_cast<double>(batch.global_count),
                      .timer = timer_};
  if (grid_.replicas().size() > 1) {
    context.reduce_statistics = [this](Stream& stream, const Tensor& values) {
      grid_.replicas().AllReduce(stream, values, ReduceOp::kSum, "batch norm").Wait(stream);
    };
  }

  Clock::time_point start = Clock::now();
  model_.Load(stream_, batch);
  times.forward_s = SecondsSince(start);
  const auto queue_work = [&] { Queue(context, ranges, times); };
  if (timer_ != nullptr) {
    queue_work();
  } else {
    runner_->Run(stream_, context, ranges, queue_work);
  }
  return times;
}

void TrainingStep::Queue(const StepContext& context, const std::vector<UpdateRange>& ranges,
                         StepTimes& times) {
  const double waited_before = model_.exchange_wait_s();
  Clock::time_point start = Clock::now();
  model_.Forward(context);
  times.forward_s += SecondsSince(start);
  start = Clock::now();
  buckets_.Begin(learning_ranges_);
  Starter starter(buckets_, stream_);
  model_.Backward(context, starter);
  times.backward_s = SecondsSince(start);
  times.exchange_wait_s = model_.exchange_wait_s() - waited_before;

  const Tensor non_finite = ViewOf(non_finite_, DType::kInt32, Shape{1});
  for (size_t b = 0; b < buckets_.buckets().size(); ++b) {
    start = Clock::now();
    buckets_.Wait(stream_, static_cast<int>(b));
    times.reduce_wait_s += SecondsSince(start);
    start = Clock::now();
    const Bucket& bucket = buckets_.buckets()[b];
    // Ranges are in arena order, so those of a bucket are neighbours.
    size_t first = 0;
    while (first < ranges.size() && ranges[first].begin < bucket.begin) ++first;
    size_t end = first;
    while (end < ranges.size() && ranges[end].begin < bucket.begin + bucket.count) ++end;
    backend_.Update(stream_, {.rule = optimizer_.rule(),
                              .parameters = store_.parameters(),
                              .compute = store_.compute(),
                              .gradients = store_.gradients(),
                              .states = store_.states(),
                              .ranges = {ranges.data() + first, end - first},
                              .non_finite = non_finite});
    times.update_s += SecondsSince(start);
  }
}

bool TrainingStep::NonFinite() {
  int32_t flag = 0;
  backend_.CopyToHost(stream_, ViewOf(non_finite_, DType::kInt32, Shape{1}), &flag);
  return flag != 0;
}

std::string TrainingStep::FirstNonFinite() {
  const auto is_finite = [&](const Tensor& tensor) {
    std::vector<char> values(static_cast<size_t>(tensor.bytes()));
    backend_.CopyToHost(stream_, tensor, values.data());
    return tensor.dtype == DType::kFloat64 ? AllFinite<double>(values) : AllFinite<float>(values);
  };
  const ArenaLayout& layout = store_.parameter_layout();
  for (size_t i = parameters_.size(); i-- > 0;) {
    const std::string& name = parameters_[i].name;
    if (!is_finite(layout.View(store_.gradients(), name))) return "the gradient of " + name;
    if (!is_finite(layout.View(store_.parameters(), name))) return name;
  }
  return {};
}

}  // namespace convoy
