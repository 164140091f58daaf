// trainer/training_step.h - one step: forward, backward, reduction, update. What grows
// with the network or the batch is allocated before the first.
#pragma once

#include <memory>
#include <vector>

#include "comm/comm.h"
#include "trainer/optimizer.h"
#include "trainer/parameter_store.h"
#include "trainer/rank_model.h"

namespace convoy {

// Seconds of one step, as the host sees them: on a device, what it takes to queue the work, and
// zero where a recorded step is queued.
struct StepTimes {
  double forward_s = 0, backward_s = 0;  // waits for the other towers included
  double exchange_wait_s = 0;            // those waits
  double reduce_wait_s = 0;              // for gradients of the other replicas: what was not hidden
  double update_s = 0;
};

struct TrainingStepOptions {
  BucketOptions buckets;
  // Queue a recording of the step, where the device and the groups can.
  bool records = true;
};

class TrainingStep {
 public:
  // Everything given outlives the step. `buckets`: ranges of the arena to reduce and update, in the
  // order in which backward completes them: those of PlanBuckets.
  TrainingStep(Backend& backend, Stream& stream, const RankPlan& plan, const ParameterStore& store,
               RankModel& model, ProcessGrid& grid, const Optimizer& optimizer,
               const std::vector<BucketRange>& buckets, const TrainingStepOptions& options);

  // Collective over the world. `batch`: this replica's rows; the gradient is that of the mean loss
  // over the batch.global_count samples of all replicas. `step_epochs`: length of a step in epochs.
  StepTimes Run(const Batch& batch, const ScheduleInputs& inputs, double step_epochs,
                uint64_t seed);

  // Receives the time of every operation from now on; null: nobody does. Steps that are timed are
  // not recorded.
  void SetTimer(OperationTimer* timer) { timer_ = timer; }

  // Whether collectives are waited for by the device alone, so that StepTimes does not see it.
  bool waits_on_device() const;

  // Of the last Run; zero on a tower without the loss.
  LossSums ReadLoss() { return model_.ReadLoss(stream_); }
  // Whether a gradient or weight of this rank became NaN or infinite; updates have stopped then.
  bool NonFinite();
  // The first gradient or parameter of this rank that is not finite, in backward order: "the
  // gradient of conv1.weight"; empty when all are.
  std::string FirstNonFinite();

 private:
  void SetLearning(const ScheduleInputs& inputs, double step_epochs);
  // Queues forward, backward, reductions and updates.
  void Queue(const StepContext& context, const std::vector<UpdateRange>& ranges, StepTimes& times);
  // Queues the update of a bucket's ranges.
  void Update(Stream& stream, const Bucket& bucket, const std::vector<UpdateRange>& ranges);

  Backend& backend_;
  Stream& stream_;
  const ParameterStore& store_;
  RankModel& model_;
  ProcessGrid& grid_;
  const Optimizer& optimizer_;
  std::vector<std::string> layers_;       // of the uncut network, those with parameters
  std::vector<bool> learning_;            // one per layer; empty before the first step
  std::vector<ArenaEntry> parameters_;    // of this rank
  std::vector<std::string> owner_layer_;  // one per parameter
  std::vector<GradientBuckets::Range> learning_ranges_;
  GradientBuckets buckets_;
  // Of updates that run beside backward; null where the host waits for reductions, which would hold
  // backward up.
  std::unique_ptr<Stream> update_stream_;
  std::unique_ptr<StepRunner> runner_;
  Buffer non_finite_, non_finite_on_host_;  // int32; copied behind every step
  OperationTimer* timer_ = nullptr;
};

}  // namespace convoy
