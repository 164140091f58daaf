// launch/options/run_options.h - the options that several subcommands share, written once.
#pragma once

#include <string>

#include "comm/world.h"
#include "launch/options/option_table.h"
#include "trainer/trainer.h"

namespace convoy {

void AddModelOptions(OptionTable& table, std::string* model, ModelOptions* options);
void AddComputeOptions(OptionTable& table, ComputeConfig* compute, WorldOptions* world);
// Whether a command says itself how crops are made, or has a checkpoint that knows.
enum class ImagesFor { kTraining, kCheckpoint };
// How images are found, read and made crops of.
void AddDataOptions(OptionTable& table, DataConfig* data, ImagesFor use = ImagesFor::kTraining);
// What becomes of images that cannot be decoded; a part of the above.
void AddBadSampleOptions(OptionTable& table, DataConfig* data,
                         ImagesFor use = ImagesFor::kTraining);
// --val-split: `what` says what is done with the share. The share is 0, or above 0 and below 1.
void AddValSplitOption(OptionTable& table, const std::string& what, double* share);
// What is drawn for images in training.
void AddDrawOptions(OptionTable& table, DataConfig* data);
// Takes the name of a geometry.
OptionTable::Store GeometryStore(Geometry* target);

}  // namespace convoy
