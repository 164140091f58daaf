#include "trainer/plan/program.h"

#include <algorithm>
#include <limits>

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

// A bucket's reduction stands after the segment with the layer that completes it.
void AppendBackward(const RankPlan& plan, const std::vector<BucketRange>& buckets, bool adds,
                    bool last, StepProgram& program) {
  size_t next_bucket = 0;
  for (int stage = static_cast<int>(plan.stages.size()); stage-- > 0;) {
    const auto* segment = std::get_if<SegmentPlan>(&plan.stages[static_cast<size_t>(stage)]);
    if (segment == nullptr) {
      program.push_back(steps::MoveActivations{stage, Direction::kBackward});
      continue;
    }
    program.push_back(steps::Backward{.stage = stage, .adds = adds, .last = last});
    if (!last) continue;
    const int first_layer = segment->spec.items.front().uncut_index;
    while (next_bucket < buckets.size() && buckets[next_bucket].lowest_layer >= first_layer) {
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
    if (buckets[static_cast<size_t>(bucket)].is_sharded) {
      program.push_back(steps::GatherParameters{bucket});
    }
  }
  return program;
}

StepProgram EvaluationProgram(const RankPlan& plan) {
  StepProgram program;
  AppendForward(plan, program);
  return program;
}

std::vector<NormRows> NormRowsOf(const RankPlan& plan) {
  std::vector<NormRows> result;
  int64_t row = 0;
  for (const ParameterCut& cut : CutsOf(plan.network, plan.grid)) {
    const int64_t rows = cut.uncut.shape[0];
    if (!result.empty() && result.back().axes == cut.axes) {
      result.back().count += rows;
    } else {
      result.push_back({row, rows, cut.axes});
    }
    row += rows;
  }
  std::erase_if(result, [](const NormRows& rows) { return rows.axes.empty(); });
  return result;
}

}  // namespace convoy
