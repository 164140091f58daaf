#include "trainer/plan/program.h"

namespace convoy {
namespace {

void AppendForward(const RankPlan& plan, StepProgram& program) {
  program.push_back(steps::Load{});
  if (plan.grid.shards > 1) program.push_back(steps::GatherRows{});
  for (int stage = 0; stage < static_cast<int>(plan.stages.size()); ++stage) {
    if (std::holds_alternative<SegmentPlan>(plan.stages[static_cast<size_t>(stage)])) {
      program.push_back(steps::Forward{stage});
    } else {
      program.push_back(steps::MoveActivations{stage, Direction::kForward});
    }
  }
}

// A bucket's reduction stands after the segment that has its first parameter: that one is the last
// to run backward.
void AppendBackward(const RankPlan& plan, const std::vector<BucketRange>& buckets, bool adds,
                    bool last, StepProgram& program) {
  const ArenaLayout layout = plan.ParameterLayout();
  size_t next_bucket = 0;
  // The first of the arena's elements whose gradients are final.
  int64_t final_from = layout.count();
  size_t next_parameter = plan.parameters.size();
  for (int stage = static_cast<int>(plan.stages.size()); stage-- > 0;) {
    const auto* segment = std::get_if<SegmentPlan>(&plan.stages[static_cast<size_t>(stage)]);
    if (segment == nullptr) {
      program.push_back(steps::MoveActivations{stage, Direction::kBackward});
      continue;
    }
    program.push_back(steps::Backward{.stage = stage, .adds = adds, .last = last});
    if (!last) continue;
    const int first_layer = segment->spec.items.front().uncut_index;
    while (next_parameter > 0 && plan.parameters[next_parameter - 1].layer_index >= first_layer) {
      final_from = layout.entries()[--next_parameter].offset;
    }
    while (next_bucket < buckets.size() && buckets[next_bucket].begin >= final_from) {
      program.push_back(steps::Reduce{static_cast<int>(next_bucket++)});
    }
  }
}

}  // namespace

StepProgram TrainingProgram(const RankPlan& plan, const std::vector<BucketRange>& buckets,
                            const ProgramOptions& options) {
  CONVOY_CHECK(options.micro_batches >= 1, "{} micro-batches", options.micro_batches);
  StepProgram program;
  for (int micro = 0; micro < options.micro_batches; ++micro) {
    AppendForward(plan, program);
    AppendBackward(plan, buckets, /*adds=*/micro > 0, /*last=*/micro + 1 == options.micro_batches,
                   program);
  }
  if (options.needs_norms) program.push_back(steps::Norms{});
  for (int bucket = 0; bucket < static_cast<int>(buckets.size()); ++bucket) {
    program.push_back(steps::Update{bucket});
  }
  return program;
}

StepProgram EvaluationProgram(const RankPlan& plan) {
  StepProgram program;
  AppendForward(plan, program);
  return program;
}

}  // namespace convoy
