// launch/commands/program_table.h - convoy summary --program: the operations of a step of one rank,
// with what each costs, and the memory that the rank needs.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/grid_shape.h"
#include "core/tensor/dtype.h"
#include "launch/options/option_table.h"
#include "layers/update_rules.h"
#include "trainer/plan/plan.h"
#include "trainer/plan/program_costs.h"

namespace convoy {

// What a step is made of, besides the network and the grid.
struct StepSettings {
  int64_t batch_size = 128;  // global
  int accumulate = 1;
  DType dtype = DType::kFloat32;
  DType reduce_dtype = DType::kFloat32;
  bool shards_update = false;
  UpdateRule rule;
  double clip_norm = 0;
};

void AddStepOptions(OptionTable& table, StepSettings* settings);

// Returns what a training step costs the rank, its crops included. `plan` was made with
// settings.shards_update.
std::vector<OperationCost> StepCostsOf(const RankPlan& plan, const StepSettings& settings);

void PrintProgram(const RankPlan& plan, const StepSettings& settings);
void PrintProgramAsJson(const RankPlan& plan, const StepSettings& settings);

}  // namespace convoy
