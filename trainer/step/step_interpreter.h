// trainer/step/step_interpreter.h - what carries out the list of a step: the inside of
// training_step.cc.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/host/clock.h"
#include "layers/phase_timer.h"
#include "trainer/step/training_step.h"

namespace convoy {

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

// Carries out the operations of a part, one after another.
class TrainingStep::Interpreter {
 public:
  Interpreter(TrainingStep& step, const StepContext& context, StepTimes& times)
      : step_(step),
        context_(context),
        times_(times),
        observer_(step.buckets_, step.stream_),
        is_updated_(step.buckets_.buckets().size()) {}

  void Run(const StepProgram& operations) {
    RankModel& model = step_.model_;
    const double exchanges_before = model.exchange_wait_s();
    const double statistics_before = model.statistics_wait_s();
    for (const StepOperation& operation : operations) {
      std::visit([this](const auto& one) { Do(one); }, operation);
    }
    for (auto& [bucket, request] : gathers_) WaitForParameters(bucket, request);
    times_.exchange_wait_s = model.exchange_wait_s() - exchanges_before;
    times_.statistics_wait_s = model.statistics_wait_s() - statistics_before;
    JoinUpdates();
  }

 private:
  // The batch is loaded already: that is not a part of what is recorded.
  void Do(const steps::Load&) {}

  void Do(const steps::GatherRows& rows) {
    Time(times_.forward_s, [&] { step_.model_.Run(rows, context_); });
  }
  void Do(const steps::Forward& forward) {
    Time(times_.forward_s, [&] { step_.model_.Run(forward, context_); });
  }
  void Do(const steps::MoveActivations& move) {
    const bool is_forward = move.direction == Direction::kForward;
    Time(is_forward ? times_.forward_s : times_.backward_s,
         [&] { step_.model_.Run(move, context_); });
  }

  void Do(const steps::Backward& backward) {
    if (backward.last && !reduces_) BeginReductions();
    BackwardObserver& observer =
        backward.last ? static_cast<BackwardObserver&>(observer_) : nobody_;
    StepContext context = context_;
    context.adds_gradients = backward.adds;
    Time(times_.backward_s, [&] { step_.model_.Run(backward, context, observer); });
  }

  // With overlap, it has started with the last of its gradients; without, it starts when somebody
  // waits for it.
  void Do(const steps::Reduce& reduce) { step_.buckets_.RequireReady(reduce.bucket); }

  void Do(const steps::Norms&) {
    const int buckets = static_cast<int>(is_updated_.size());
    for (int bucket = 0; bucket < buckets; ++bucket) Wait(bucket);
    const PhaseTimer timer(context_, "norms", "update");
    Time(times_.update_s, [&] { step_.QueueNorms(step_.stream_); });
  }

  void Do(const steps::Update& update) {
    if (is_updated_[static_cast<size_t>(update.bucket)]) return;
    JoinUpdates();
    Wait(update.bucket);
    const PhaseTimer timer(context_, BucketName(update.bucket), "update");
    Time(times_.update_s, [&] { step_.updater_->Run(step_.stream_, update.bucket); });
  }

  // Goes on while other buckets are updated.
  void Do(const steps::GatherParameters& gather) {
    if (is_updated_[static_cast<size_t>(gather.bucket)]) return;
    gathers_.emplace_back(gather.bucket, step_.GatherParameters(step_.stream_, gather.bucket));
  }

  void WaitForParameters(int bucket, Request& request) {
    const PhaseTimer timer(context_, BucketName(bucket), "exposed gather");
    Time(times_.reduce_wait_s,
         [&] { step_.FinishGather(step_.stream_, bucket, std::move(request)); });
  }

  void BeginReductions() {
    reduces_ = true;
    // Updates come after backward if operations are timed, to tell their time; without overlap,
    // since an update waits for its bucket's reduction; and if they need norms, which take all
    // gradients.
    const bool updates_beside = step_.update_stream_ != nullptr && context_.timer == nullptr &&
                                step_.overlap_ == Overlap::kOn && !step_.needs_norms_;
    const auto update_beside = [this](int bucket) {
      Stream& beside = *step_.update_stream_;
      beside.WaitFor(*step_.stream_.Record());
      step_.buckets_.Wait(beside, bucket);
      step_.updater_->Run(beside, bucket);
      if (step_.bucket_ranges_[static_cast<size_t>(bucket)].is_sharded) {
        step_.FinishGather(beside, bucket, step_.GatherParameters(beside, bucket));
      }
      is_updated_[static_cast<size_t>(bucket)] = true;
      runs_beside_ = true;
    };
    step_.buckets_.Begin(step_.learning_ranges_,
                         updates_beside ? update_beside : std::function<void(int)>());
  }

  // A stream that did nothing is not waited for: a recording knows only streams that took part.
  void JoinUpdates() {
    if (std::exchange(runs_beside_, false)) {
      step_.stream_.WaitFor(*step_.update_stream_->Record());
    }
  }

  void Wait(int bucket) {
    const PhaseTimer timer(context_, BucketName(bucket), "exposed reduction");
    Time(times_.reduce_wait_s, [&] { step_.buckets_.Wait(step_.stream_, bucket); });
  }

  const std::string& BucketName(int bucket) const {
    return step_.buckets_.buckets()[static_cast<size_t>(bucket)].name;
  }

  template <typename Work>
  static void Time(double& sum, const Work& work) {
    const Clock::time_point start = Clock::now();
    work();
    sum += SecondsSince(start);
  }

  // Of gradients that are not final yet.
  class Nobody final : public BackwardObserver {
    void GradientReady(int64_t, int64_t) override {}
    void WeightsReleased(int64_t, int64_t) override {}
  };

  TrainingStep& step_;
  const StepContext& context_;
  StepTimes& times_;
  BucketObserver observer_;
  Nobody nobody_;
  std::vector<bool> is_updated_;                  // buckets, beside backward
  std::vector<std::pair<int, Request>> gathers_;  // of buckets
  bool reduces_ = false, runs_beside_ = false;
};

}  // namespace convoy
