// layers/layers.h - start here: what a network is, and how it is run on a device.
//
//   spec.h           NetworkSpec: a network as a list of plain layers
//   analysis.h       shapes, parameters and counts of such a list
//   models.h         the networks that have names
//   network.h        Network: a compiled part of one: Forward, Backward
//   memory.h         how much memory that takes
//   backend.h        Backend: a device that compiles them; InputStage: from uint8 crops to its type
//   update_rules.h   UpdateRule: how weights change
//   updater.h        Updater: a rule compiled for the weights of a rank
//
// Rooms: models/, operations/ (what backends share), and the backends cpu/, cuda/ and oracle/.
#pragma once

#include "layers/analysis.h"
#include "layers/backend.h"
#include "layers/memory.h"
#include "layers/models.h"
#include "layers/network.h"
#include "layers/spec.h"
#include "layers/update_rules.h"
#include "layers/updater.h"
