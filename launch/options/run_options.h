// launch/options/run_options.h - the options that several subcommands share, written once.
#pragma once

#include "comm/world.h"
#include "launch/options/option_table.h"
#include "trainer/trainer.h"

namespace convoy {

void AddModelOptions(OptionTable& table, std::string* model, ModelOptions* options);
void AddComputeOptions(OptionTable& table, ComputeConfig* compute, WorldOptions* world);
// How images are found, read and made crops of.
void AddDataOptions(OptionTable& table, DataConfig* data);
// What is drawn for images in training.
void AddDrawOptions(OptionTable& table, DataConfig* data);
// Takes the name of a geometry.
OptionTable::Store GeometryStore(Geometry* target);

}  // namespace convoy
