#include "trainer/run/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "comm/step_watch.h"
#include "core/text.h"
#include "trainer/ranks/agreement.h"
#include "trainer/run/evaluation.h"
#include "trainer/run/run_setup.h"

namespace convoy {
namespace {

constexpr const char* kNumbersHint =
    "the last checkpoint is good; go on from it with a smaller --lr";

}  // namespace

TrainingResult TrainingRun::Run() {
  if (!HasWork()) return {TrainingEnd::kFinished, step_, loss_};
  try {
    return RunSteps();
  } catch (const Error& error) {
    // Before memory is given back that peers' collectives may wait for.
    grid().GiveUp(error.what());
    throw;
  }
}

TrainingResult TrainingRun::RunSteps() {
  Announce();
  SignalWatch signals;
  run_start_ = last_step_end_ = Clock::now();
  first_step_ = step_;
  // A run that was stopped in the middle of an evaluation begins with it.
  if (evaluation_due_ && !EvaluateAndSave(signals)) return Stopped();
  while (!Finished()) {
    const Fetched first = Fetch();
    const StepVerdict verdict = AgreeOnNextBatch({.stop = signals.StopAsked(),
                                                  .checkpoint = signals.TakeCheckpointAsked(),
                                                  .bad_samples = loader_->bad_samples(),
                                                  .fault = first.fault});
    if (verdict.stop || verdict.checkpoint) FinishAllSteps();
    if (verdict.stop) return Stopped();
    if (verdict.checkpoint) Save(Importance::kShould);
    QueueStep(first.seconds);
    const bool epoch_ends = batch_ == 0;
    const bool due = config_.checkpoint_every > 0 && step_ % config_.checkpoint_every == 0;
    if (epoch_ends || due || Finished()) {
      FinishAllSteps();
      if (epoch_ends || Finished()) {
        const int64_t ended = epoch_ends ? epoch_ - 1 : epoch_;
        loader_log_->EndEpoch(loader_->loader(), step_, ended, metrics_.get());
        stragglers_.EndEpoch(step_, ended, metrics_.get());
      }
      evaluation_due_ = evaluation_loader_ != nullptr &&
                        ((epoch_ends && epoch_ % config_.eval_every == 0) || Finished());
      if (!EvaluateAndSave(signals)) return Stopped();
      last_step_end_ = Clock::now();
    }
    if (config_.check_replicas > 0 && step_ % config_.check_replicas == 0) CompareSlices();
  }
  progress_.reset();
  log_.Info("done: {}, {}, in {}", FormatCount(step_, "step"), FormatCount(epoch_, "epoch"),
            FormatDuration(SecondsSince(run_start_)));
  return {TrainingEnd::kFinished, step_, loss_};
}

TrainingResult TrainingRun::Stopped() {
  Save(Importance::kMust);
  // With --resume none it would start anew, with a checkpoint begin there again.
  log_.Info("stopped by a signal after step {}; the same command {}goes on from there", step_,
            config_.resume == "auto" ? "" : "with --resume auto ");
  return {TrainingEnd::kInterrupted, step_, loss_};
}

// False: a signal asked for the end during the evaluation, which is left to the next start.
bool TrainingRun::EvaluateAndSave(const SignalWatch& signals) {
  if (evaluation_due_ && !Evaluate(signals)) return false;
  Save(Finished() ? Importance::kMust : Importance::kShould);
  return true;
}

bool TrainingRun::Finished() const {
  return epoch_ >= config_.epochs || (config_.steps && step_ >= *config_.steps);
}

ScheduleInputs TrainingRun::Now() const {
  const double step_epochs = 1.0 / static_cast<double>(StepsPerEpoch());
  return {.epoch = static_cast<double>(epoch_) + static_cast<double>(batch_) * step_epochs,
          .step_epochs = step_epochs,
          .total_epochs = TotalEpochs(),
          .evaluations = &evaluations_};
}

int64_t TrainingRun::StepsPerEpoch() const {
  return (training_set_->size() + config_.batch_size - 1) / config_.batch_size;
}

// Steps until the end, from the start of the run.
int64_t TrainingRun::TotalSteps() const {
  const int64_t left = (config_.epochs - epoch_) * StepsPerEpoch() - batch_;
  const int64_t total = step_ + std::max<int64_t>(left, 0);
  return config_.steps ? std::min(total, *config_.steps) : total;
}

// Where the run ends, in epochs.
double TrainingRun::TotalEpochs() const {
  // Whole numbers first, so that every step of a run sees the same end to the last bit.
  const int64_t batches = epoch_ * StepsPerEpoch() + batch_ + TotalSteps() - step_;
  return static_cast<double>(batches) / static_cast<double>(StepsPerEpoch());
}

TrainingRun::Fetched TrainingRun::Fetch() {
  Fetched fetched;
  const Clock::time_point start = Clock::now();
  try {
    loader_->Fetch();
    // It travels to the device while the work before still runs there.
    if (const Batch* batch = loader_->Whole()) engine_->model().Prefetch(*batch);
  } catch (const Error& error) {
    fetched.fault = error;
  }
  fetched.seconds = SecondsSince(start);
  return fetched;
}

void TrainingRun::QueueStep(double fetch_s) {
  const StepRates rates = engine_->optimizer().NextRates(Now());
  world_.SetStep(step_ + 1);
  StepUnderWay under_way{{.step = step_ + 1, .epoch = epoch_}, 0};
  StepTimes times;
  double wait_s = 0;
  for (bool is_last = false; !is_last;) {
    const Clock::time_point exchange_start = Clock::now();
    const Batch& batch = loader_->Exchange();
    wait_s += SecondsSince(exchange_start);
    times += engine_->step().Run(batch, rates, config_.seed);
    EnterBadSamples();
    under_way.images = batch.global_count;
    is_last = batch.micro.is_last();
    if (!is_last) fetch_s += FetchNextMicroBatch();
  }
  StepMetrics& metrics = under_way.metrics;
  metrics.wait_data_ms = 1e3 * (fetch_s + wait_s);
  metrics.lr = rates.lr;
  // A device waits by itself: only a host that waits can tell.
  if (world_.size() == 1 || !engine_->step().waits_on_device()) {
    metrics.wait_comm_ms =
        1e3 * (times.exchange_wait_s + times.statistics_wait_s + times.reduce_wait_s);
  }
  under_way.own = {.own_ms = 1e3 * (fetch_s + times.OwnSeconds()), .data_ms = 1e3 * fetch_s};
  under_way_.push_back(std::move(under_way));
  SayWhyNotRecorded();

  ++step_;
  if (++batch_ == StepsPerEpoch()) {
    batch_ = 0;
    ++epoch_;
  }
}

// Nobody stops in the middle of a step: a signal waits for its end.
double TrainingRun::FetchNextMicroBatch() {
  const Fetched fetched = Fetch();
  AgreeOnNextBatch({.bad_samples = loader_->bad_samples(), .fault = fetched.fault});
  return fetched.seconds;
}

void TrainingRun::SayWhyNotRecorded() {
  if (said_why_not_recorded_) return;
  const std::string reason = engine_->step().why_not_recorded();
  if (reason.empty()) return;
  said_why_not_recorded_ = true;
  log_.Warning(
      "steps are queued operation by operation, which is slower and gives the same numbers, since "
      "recording one failed: {}; --cuda-graph off does not try",
      reason);
}

// Of the batch that was fetched last.
void TrainingRun::EnterBadSamples() {
  loader_log_->AddBadSamples(loader_->TakeBadSamples(), step_ + 1, "training");
}

StepVerdict TrainingRun::AgreeOnNextBatch(StepReport report) {
  try {
    const StepVerdict verdict = Agree(std::move(report));
    loader_->CountBadSamples(world_, verdict.bad_samples);
    return verdict;
  } catch (const Error&) {
    EnterBadSamples();
    throw;
  }
}

StepVerdict TrainingRun::Agree(StepReport report) {
  if (std::ssize(under_way_) > engine_->step().steps_ahead()) return FinishStep(std::move(report));
  return convoy::Agree(world_, report);
}

void TrainingRun::FinishAllSteps() {
  while (!under_way_.empty()) FinishStep({});
}

// Of the oldest step under way.
StepVerdict TrainingRun::FinishStep(StepReport report) {
  auto& [metrics, images, own] = under_way_.front();
  {
    const StepWatch watch(grid().watchdog(), metrics.step);
    const StepResult result = engine_->step().ReadResult();
    report.loss = result.loss;
    report.non_finite = result.non_finite;
  }
  const StepVerdict verdict = convoy::Agree(world_, report);
  // A batch of dropped images has no loss: nothing was learned, and the last one stands.
  const bool has_loss = verdict.loss.weight > 0;
  if (has_loss) loss_ = verdict.loss.loss / verdict.loss.weight;
  if (verdict.non_finite || (has_loss && !std::isfinite(loss_))) {
    ThrowNonFinite(metrics.step, report.non_finite);
  }
  metrics.loss = loss_;
  const double step_s = SecondsSince(last_step_end_);
  last_step_end_ = Clock::now();
  metrics.images_per_s = static_cast<double>(images) / step_s;
  window_images_ += images;
  window_s_ += step_s;
  loader_log_->AddTime(step_s);
  if (metrics_) metrics_->Add(metrics);
  if (has_loss) WarnOfSpike(metrics);
  ShowProgress(metrics);
  stragglers_.Add(own, 1e3 * step_s);
  under_way_.pop_front();
  return verdict;
}

void TrainingRun::ThrowNonFinite(int64_t step, bool here) {
  // A NaN without its sign.
  const double loss = std::isnan(loss_) ? std::numeric_limits<double>::quiet_NaN() : loss_;
  RunTogether(world_, [&] {
    const std::string tensor = here ? engine_->step().FirstNonFinite() : std::string();
    if (!tensor.empty()) {
      throw Error(ExitCode::kNumbers,
                  fmt::format("step {}: {} is not finite (rank {}, loss {})", step, tensor,
                              world_.rank(), loss),
                  kNumbersHint);
    }
  });
  throw AgreedError(
      Error(ExitCode::kNumbers, fmt::format("step {}: the loss is {}", step, loss), kNumbersHint),
      0);
}

void TrainingRun::WarnOfSpike(const StepMetrics& metrics) {
  const std::optional<LossSpike> spike = spikes_.Add(metrics.loss);
  if (!spike) return;
  log_.Warning(
      "step {}: the loss jumped to {:.4g}, {:.1f} deviations above the mean of the steps before "
      "({:.4g} +- {:.2g}); if it stays there, go on from an earlier checkpoint with a smaller --lr",
      metrics.step, spike->loss, spike->Deviations(), spike->mean, spike->deviation);
  if (metrics_) metrics_->Add(LossSpikeMetrics{metrics.step, metrics.epoch, *spike});
}

void TrainingRun::ShowProgress(const StepMetrics& metrics) {
  if (!progress_) return;
  const int64_t total = TotalSteps();
  const int64_t step = metrics.step;
  const double per_step = SecondsSince(run_start_) / static_cast<double>(step - first_step_);
  const double remaining_s = per_step * static_cast<double>(total - step);
  const bool prints = config_.print_freq > 0 && step % config_.print_freq == 0;
  const double images_per_s = window_s_ > 0 ? static_cast<double>(window_images_) / window_s_ : 0;
  const std::string text =
      fmt::format("epoch {}/{}  step {}  loss {}  lr {:.3g}  {:.1f} images/s", metrics.epoch + 1,
                  config_.epochs, step,
                  std::isnan(metrics.loss) ? "unknown" : fmt::format("{:.4f}", metrics.loss),
                  metrics.lr, images_per_s);
  progress_->Show(static_cast<double>(step) / static_cast<double>(total), remaining_s, text);
  if (prints || step == total) {
    const std::string comm = metrics.wait_comm_ms
                                 ? fmt::format("  comm {:.0f} ms", *metrics.wait_comm_ms)
                                 : std::string();
    progress_->Line(fmt::format("{}  data {:.0f} ms{}  {} left", text, metrics.wait_data_ms, comm,
                                FormatDuration(remaining_s)));
  }
  if (prints) {
    window_images_ = 0;
    window_s_ = 0;
  }
}

bool TrainingRun::Evaluate(const SignalWatch& signals) {
  const WorkScope scope(world_, "evaluating");
  const auto model = engine_->CompileForEvaluation(evaluation_loader_->rows(), log_);
  const auto enter_bad_samples = [&] {
    loader_log_->AddBadSamples(evaluation_loader_->TakeBadSamples(), step_, "validation");
  };
  std::optional<EvaluationResult> result;
  try {
    result = EvaluateModels({model.get()}, *evaluation_loader_, resources_,
                            {.views = config_.views,
                             .classes = network_.classes,
                             .progress = progress_.get(),
                             .stop_asked = [&] { return signals.StopAsked(); }});
  } catch (const Error&) {
    enter_bad_samples();
    throw;
  }
  enter_bad_samples();
  if (!result) return false;
  if (!std::isfinite(result->loss)) {
    throw AgreedError(
        Error(ExitCode::kNumbers,
              fmt::format("step {}: the validation loss is {}", step_, result->loss), kNumbersHint),
        0);
  }
  evaluation_due_ = false;
  const double error = 100 - result->top1;
  is_best_ =
      evaluations_.empty() || error < *std::min_element(evaluations_.begin(), evaluations_.end());
  evaluations_.push_back(error);
  if (metrics_) {
    metrics_->Add(EvaluationMetrics{.step = step_,
                                    .epoch = epoch_,
                                    .views = result->views,
                                    .images = result->images,
                                    .left_out = result->left_out,
                                    .loss = result->loss,
                                    .top1 = result->top1,
                                    .top5 = result->top5});
  }
  log_.Info("epoch {:.3g}: validation loss {:.4f}, top-1 {:.2f} %, top-5 {:.2f} % of {} images{}{}",
            Now().epoch, result->loss, result->top1, result->top5, FormatCount(result->images),
            DescribeLeftOut(result->left_out), is_best_ ? " (best so far)" : "");
  return true;
}

}  // namespace convoy
