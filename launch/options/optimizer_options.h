// launch/options/optimizer_options.h - the options of how weights are updated.
#pragma once

#include <string>

#include "launch/options/option_table.h"
#include "trainer/run_config.h"

namespace convoy {

// Adds only --optimizer, for a command that has no use for its settings.
void AddRuleOption(OptionTable& table, UpdateRule* rule);
// Adds only --clip-grad.
void AddClipOption(OptionTable& table, double* clip_norm);
// --optimizer and all that it can be told, down to --param-group.
void AddOptimizerOptions(OptionTable& table, OptimizerOptions* optimizer);
// After Parse: shows the rate and decay that the optimizer takes by itself among the settings.
void ShowOptimizerDefaults(OptionTable& table, const OptimizerOptions& optimizer);
// Takes a schedule.
OptionTable::Store ScheduleStore(const std::string& option, Schedule* target);

}  // namespace convoy
