// trainer/plan/program.h - a step as a list of operations, which trainer/step carries out and
// `convoy summary --program` prints.
//
// The list says what a step is, in an order in which every operation finds what it needs. Two kinds
// may start earlier than they stand there, inside the backward pass before them: a reduction as
// soon as its gradients are final, and an update that runs on a stream of its own as soon as its
// gradients are reduced and its weights are read no more.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "trainer/plan/plan.h"

namespace convoy {

enum class Direction { kForward, kBackward };

namespace steps {

// Makes this rank's rows of the next micro-batch the input of the first segment.
struct Load {
  bool operator==(const Load&) const = default;
};
// Gathers the labels, weights and positions of all shards' rows.
struct GatherRows {
  bool operator==(const GatherRows&) const = default;
};
// Runs a segment, an index in RankPlan::stages.
struct Forward {
  int stage = 0;
  bool operator==(const Forward&) const = default;
};
// Carries out an exchange, an index in RankPlan::stages: of activations, or of their gradients.
struct MoveActivations {
  int stage = 0;
  Direction direction = Direction::kForward;
  bool operator==(const MoveActivations&) const = default;
};
// Runs a segment backward.
struct Backward {
  int stage = 0;
  bool adds = false;  // to the gradients of the micro-batches before
  bool last = true;   // the gradients are final after it
  bool operator==(const Backward&) const = default;
};
// Sums a bucket of gradients over its axes, or each rank's part of it; an index in the list of
// buckets.
struct Reduce {
  int bucket = 0;
  bool operator==(const Reduce&) const = default;
};
// Works out the norms of gradients and weights; every bucket is reduced by then.
struct Norms {
  bool operator==(const Norms&) const = default;
};
// Updates the parameters of a bucket, or this rank's part of them.
struct Update {
  int bucket = 0;
  bool operator==(const Update&) const = default;
};
// Gathers the parts of a bucket's parameters that the ranks have updated.
struct GatherParameters {
  int bucket = 0;
  bool operator==(const GatherParameters&) const = default;
};

}  // namespace steps

using StepOperation = std::variant<steps::Load, steps::GatherRows, steps::Forward,
                                   steps::MoveActivations, steps::Backward, steps::Reduce,
                                   steps::Norms, steps::Update, steps::GatherParameters>;
using StepProgram = std::vector<StepOperation>;

struct ProgramOptions {
  int micro_batches = 1;  // whose gradients add up to those of the step
  bool needs_norms = false;
};

// Returns the list of a training step of this rank; `buckets` as PlanBuckets returns them.
StepProgram TrainingProgram(const RankPlan& plan, const std::vector<BucketRange>& buckets,
                            const ProgramOptions& options);
// Returns the list of one batch of an evaluation.
StepProgram EvaluationProgram(const RankPlan& plan);

// Neighbouring rows of the table of sums of squares (Updater::SumSquares), of which the ranks along
// `axes` have parts: they add them up.
struct NormRows {
  int64_t begin = 0, count = 0;
  Axes axes;
};
// Returns them in order; the same on every rank. Rows that only one rank has are not among them.
std::vector<NormRows> NormRowsOf(const RankPlan& plan);

}  // namespace convoy
