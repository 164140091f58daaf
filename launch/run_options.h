// launch/run_options.h - the options that several subcommands share, written once.
#pragma once

#include "comm/comm.h"
#include "launch/option_table.h"
#include "trainer/trainer.h"

namespace convoy {

void AddModelOptions(OptionTable& table, std::string* model, ModelOptions* options);
void AddComputeOptions(OptionTable& table, ComputeConfig* compute, WorldOptions* world);
// devkit, geometry, workers, bad samples.
void AddDataOptions(OptionTable& table, DataConfig* data);
// What is drawn for every image besides the place of its crop.
void AddDrawOptions(OptionTable& table, DataConfig* data);
OptionTable::Store GeometryStore(Geometry* target);

}  // namespace convoy
