// trainer/step/training_step.h - one step: carries out its list of operations (plan/program.h).
// What grows with the network or the batch is allocated before the first.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/buckets.h"
#include "comm/grid.h"
#include "trainer/plan/program.h"
#include "trainer/step/optimizer.h"
#include "trainer/step/parameter_store.h"
#include "trainer/step/rank_model.h"

namespace convoy {

// Seconds of one step, as the host sees them: on a device, what it takes to queue the work, and
// zero if a recorded step is queued.
struct StepTimes {
  double forward_s = 0, backward_s = 0;  // the next two included
  double exchange_wait_s = 0;            // waits for activations of the other ranks of the replica
  double statistics_wait_s = 0;          // waits for batch norm's sums over other ranks
  // For gradients and updated parameters of other ranks: what was not hidden.
  double reduce_wait_s = 0;
  double update_s = 0;

  StepTimes& operator+=(const StepTimes& other);
  // All of it, without waiting for other ranks.
  double OwnSeconds() const {
    return forward_s + backward_s - exchange_wait_s - statistics_wait_s + update_s;
  }
};

// What a step came to on this rank.
struct StepResult {
  LossSums loss;            // zero on a rank whose loss does not count
  bool non_finite = false;  // a gradient or weight became NaN or infinite; updates have stopped
};

struct TrainingStepOptions {
  BucketOptions buckets;
  int micro_batches = 1;  // the most that a step has
  // Queue a recording of the step, if the device and the groups can.
  bool records = true;
};

// What a step works on. All of it outlives the step.
struct StepParts {
  Backend& backend;
  Stream& stream;
  ProcessGrid& grid;
  const RankPlan& plan;
  const ParameterStore& store;
  RankModel& model;
  const Optimizer& optimizer;
};

class TrainingStep {
 public:
  // `buckets`: ranges of the arena to reduce and update, in the order in which backward completes
  // them: those of PlanBuckets.
  TrainingStep(const StepParts& parts, const std::vector<BucketRange>& buckets,
               const TrainingStepOptions& options);
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;
  // Waits for steps whose results nobody has read.
  ~TrainingStep();

  // Collective over the world. `batch`: this rank's rows of the step's global batch, or of one of
  // its micro-batches, which come in their order, with the same rates; the last one is followed by
  // the update. The gradient is that of the mean loss over the batch.global_count samples of the
  // global batch.
  // On a device, it may return before the work is done; at most steps_ahead() + 1 results of steps
  // are left unread.
  StepTimes Run(const Batch& batch, const StepRates& rates, uint64_t seed);

  // Receives the time of every operation from now on; null: nobody does. Steps that are timed are
  // not recorded.
  void SetTimer(OperationTimer* timer) { timer_ = timer; }

  // Why steps are queued anew each time although they were to be recorded; empty otherwise.
  std::string why_not_recorded() const;

  // Returns how many steps to queue after the one whose result is read next, so that a device never
  // waits for the host: 0 if the host takes part in every step.
  int steps_ahead() const { return waits_on_device() ? kMaxStepsAhead : 0; }
  // Returns whether only the device waits for collectives, so that StepTimes does not see it.
  bool waits_on_device() const { return update_stream_ != nullptr; }

  // Of the oldest step whose result was not read yet. Waits until it has run.
  StepResult ReadResult();
  // After a result that is not finite: the first gradient or parameter of this rank that is not, in
  // backward order: "the gradient of conv1.weight"; empty when all are. Gradients of a step that
  // later ones overwrite are not told apart from their parameters, which have taken them up.
  std::string FirstNonFinite();

 private:
  TrainingStep(const StepParts& parts, const std::vector<BucketRange>& buckets,
               const TrainingStepOptions& options, const UpdateOptions& updates);

  // What is queued between two loads of a batch, and its recording.
  struct Part {
    StepProgram operations;
    std::unique_ptr<StepRunner> runner;
  };
  class Interpreter;

  void SetLearning(const std::vector<bool>& learns);
  Part& PartOf(MicroBatch micro);
  // Starts to gather what the ranks have updated of a bucket: what layers read.
  Request GatherParameters(Stream& stream, int bucket);
  void FinishGather(Stream& stream, int bucket, Request request);
  // Queues the norms of the whole network: all gradients are reduced.
  void QueueNorms(Stream& stream);
  void QueueResult(MicroBatch micro);

  Backend& backend_;
  Stream& stream_;
  const RankPlan& plan_;
  const ParameterStore& store_;
  RankModel& model_;
  ProcessGrid& grid_;
  std::vector<bool> learning_;          // one per layer of the uncut network; empty before a step
  std::vector<ArenaEntry> parameters_;  // of this rank
  std::vector<GradientBuckets::Range> learning_ranges_;
  GradientBuckets buckets_;
  // Of updates that run beside backward, unless overlap is off; null if the host waits for
  // reductions, which would hold backward up.
  std::unique_ptr<Stream> update_stream_;
  const std::vector<BucketRange> bucket_ranges_;
  std::vector<std::string> gather_names_;  // of buckets, in messages
  const bool records_;
  std::vector<std::unique_ptr<Part>> parts_;  // different ones
  std::map<MicroBatch, Part*> part_of_;
  // Results of batches are copied here after their work, on the host.
  struct ResultSlot {
    Buffer loss, non_finite;        // LossSums, int32
    std::unique_ptr<Event> copied;  // null if nothing is to be read
    bool ends_step = false;
  };
  static constexpr int kMaxStepsAhead = 1;
  std::vector<ResultSlot> results_;
  size_t next_result_ = 0, next_read_ = 0;  // in results_
  Buffer non_finite_;                       // int32, of the updates
  const bool needs_norms_;
  std::unique_ptr<Updater> updater_;
  const std::vector<NormRows> norm_rows_;
  const bool gathers_masters_;
  OperationTimer* timer_ = nullptr;
  const Overlap overlap_;
};

}  // namespace convoy
